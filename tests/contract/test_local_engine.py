"""The engine of this process, through its suite."""

from cbs_core.batch.local import LocalEngine
from cbs_core.contract.engines import Start
from cbs_core.testing import EngineSuite


class TestLocal(EngineSuite):
    plugin = "engine/local"

    def create(self, start: Start) -> LocalEngine:
        return LocalEngine(start)
