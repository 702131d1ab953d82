"""What every command says alike of itself."""

from cbs_core import __version__

VERSION = f"class-based-styling {__version__}"
"""What ``--version`` of every command says."""
