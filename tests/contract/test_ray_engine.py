"""The Ray engine keeps the contract of engines."""

import pytest

from cbs_core import testing
from cbs_core.choose.registry import REGISTRIES

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module", autouse=True)
def one_ray_for_all():
    """The engine keeps to a Ray that the process has joined: one start, not one a test."""
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


class TestRay(testing.ProcessEngineSuite):
    plugin = "engine/ray"

    def create(self, start):
        kind, _, name = self.plugin.partition("/")
        return REGISTRIES[kind].create(name, start=start, cpus=1, workers=1)
