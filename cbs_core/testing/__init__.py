"""Conformance suites: subclass one in your tests, give it your plugin, and pytest runs the rest.

    from cbs_core.testing import StylerSuite

    class TestPastel(StylerSuite):
        def create(self):
            return Pastel()

The suites hold the parts of `cbs_core.contract.interfaces` that the framework relies on. On a
machine with CUDA they also run the plugin there and fail it where it waits for the device.

A suite is imported when it is named: what workers of an engine need of these costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cbs_core.testing.accelerators import AcceleratorSuite
    from cbs_core.testing.compositors import CompositorSuite
    from cbs_core.testing.engines import EngineSuite, ProcessEngineSuite
    from cbs_core.testing.helpers import (
        CUDA,
        SIZES,
        accepts_path_first,
        no_device_wait,
        picture,
        raw_frame,
    )
    from cbs_core.testing.models import (
        InstanceSegmenterSuite,
        PointSegmenterSuite,
        PromptableSuite,
        RegionStylerSuite,
        SegmenterSuite,
        StylerSuite,
    )
    from cbs_core.testing.schedulers import SchedulerSuite
    from cbs_core.testing.state import StatefulSuite
    from cbs_core.testing.streams import SinkSuite, SourceSuite

_HOMES = {
    "accelerators": ("AcceleratorSuite",),
    "compositors": ("CompositorSuite",),
    "engines": ("EngineSuite", "ProcessEngineSuite"),
    "helpers": (*("CUDA", "SIZES"), "accepts_path_first", "no_device_wait", "picture", "raw_frame"),
    "models": (
        *("InstanceSegmenterSuite", "PointSegmenterSuite", "PromptableSuite"),
        *("RegionStylerSuite", "SegmenterSuite", "StylerSuite"),
    ),
    "schedulers": ("SchedulerSuite",),
    "state": ("StatefulSuite",),
    "streams": ("SinkSuite", "SourceSuite"),
}

__all__ = [
    "CUDA",
    "SIZES",
    "AcceleratorSuite",
    "CompositorSuite",
    "EngineSuite",
    "InstanceSegmenterSuite",
    "PointSegmenterSuite",
    "ProcessEngineSuite",
    "PromptableSuite",
    "RegionStylerSuite",
    "SchedulerSuite",
    "SegmenterSuite",
    "SinkSuite",
    "SourceSuite",
    "StatefulSuite",
    "StylerSuite",
    "accepts_path_first",
    "no_device_wait",
    "picture",
    "raw_frame",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
