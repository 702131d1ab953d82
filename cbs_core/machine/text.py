"""Foreign text, as it may be printed: licences, names of classes and packages, errors."""

import logging
import re

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that a terminal obeys, but for tab and new line."""


def printable(text: str) -> str:
    r"""Returns a text in which what a terminal would obey is spelt out.

    Example:
        >>> printable("\x1b[31mred")
        '\\x1b[31mred'
    """
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def say(*parts: object) -> None:
    """Prints foreign text, at once."""
    print(printable(" ".join(map(str, parts))), flush=True)


def clean(record: logging.LogRecord) -> bool:
    """Makes what is logged printable (a filter of `logging`)."""
    record.msg, record.args = printable(record.getMessage()), ()
    return True
