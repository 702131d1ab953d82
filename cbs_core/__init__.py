"""CBS, class-based styling: the framework. It knows no model and no codec.

Importing this package imports neither torch nor any plugin, so that ``--help`` and shell
completion answer at once; import the module that you need (`cbs_core.frame.pipeline`, ...).
"""

__version__ = "0.1.0"
