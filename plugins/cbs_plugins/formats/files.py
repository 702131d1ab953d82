"""Files as sources find them, and as sinks write them (`cbs_core.machine.files`)."""

from cbs_core.machine.files import reason, rename
from cbs_core.machine.inputs import input_file, missing

__all__ = ["input_file", "missing", "reason", "rename"]
