"""What every command prints alike: its version, and foreign text as it may be printed."""

import re

from cbs_core import __version__

VERSION = f"class-based-styling {__version__}"
"""What ``--version`` of every command says."""

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that a terminal obeys, but for tab and new line."""


def printable(text: str) -> str:
    r"""Returns a text in which what a terminal would obey is spelt out.

    Example:
        >>> printable("\x1b[31mred")
        '\\x1b[31mred'
    """
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
