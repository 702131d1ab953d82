"""Conformance suites: subclass one in your tests, give it your plugin, and pytest runs the rest.

    from cbs_core.testing import StylerSuite

    class TestPastel(StylerSuite):
        def create(self):
            return Pastel()

The suites hold the parts of `cbs_core.contract.interfaces` that the framework relies on. On a
machine with CUDA they also run the plugin there and fail it where it waits for the device.
"""

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
    PromptableSuite,
    RegionStylerSuite,
    SegmenterSuite,
    StylerSuite,
)
from cbs_core.testing.schedulers import SchedulerSuite
from cbs_core.testing.state import StatefulSuite
from cbs_core.testing.streams import SinkSuite, SourceSuite

__all__ = [
    "CUDA",
    "SIZES",
    "AcceleratorSuite",
    "CompositorSuite",
    "EngineSuite",
    "InstanceSegmenterSuite",
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
