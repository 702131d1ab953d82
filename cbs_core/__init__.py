"""CBS, class-based styling: restyle chosen classes of pictures and video.

    import cbs_core as cbs

    out = cbs.restyle(picture, {"person": "starry_night"})
    with cbs.Restyler({"car": "wave"}) as restyler:
        for frame in frames:
            show(restyler(frame))

Importing this package imports neither torch nor any plugin, so that ``--help`` and shell
completion answer at once; what is named here is imported when it is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cbs_core.api.restyler import Restyled as Restyled
    from cbs_core.api.restyler import Restyler as Restyler
    from cbs_core.api.restyler import restyle as restyle
    from cbs_core.contract.errors import CbsError as CbsError
    from cbs_core.frame.plan import Plan as Plan
    from cbs_core.temporal.state import State as State

__version__ = "0.1.0"

# No library that is loaded here or by a plugin may call home. They read this when they are imported
# (ONNX Runtime starts its uploader then), so it is said before any of them is.
os.environ |= {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}

_HOMES = {
    "restyle": "cbs_core.api.restyler",
    "Restyler": "cbs_core.api.restyler",
    "Restyled": "cbs_core.api.restyler",
    "Plan": "cbs_core.frame.plan",
    "State": "cbs_core.temporal.state",
    "CbsError": "cbs_core.contract.errors",
}

__all__ = ["CbsError", "Plan", "Restyled", "Restyler", "State", "__version__", "restyle"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'cbs_core' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
