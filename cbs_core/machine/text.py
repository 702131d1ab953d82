"""Foreign text, as it may be printed: licences, names of classes and packages, errors."""

import logging
import re
import sys
from collections.abc import Sequence
from typing import Any

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys, but for tab and new line; with those that turn the direction of
writing, by which a name can pass for another (Unicode TR 36, 2.9)."""


def printable(text: str) -> str:
    r"""Returns a text in which what a terminal would obey is spelt out.

    Example:
        >>> printable("\x1b[31mred")
        '\\x1b[31mred'
    """
    return CONTROL.sub(lambda found: _spelt(ord(found[0])), text)


def _spelt(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def say(*parts: object) -> None:
    """Prints foreign text, at once."""
    print(printable(" ".join(map(str, parts))), flush=True)


def complain(*parts: object) -> None:
    """Prints foreign text to stderr, as what went wrong is."""
    print(printable(" ".join(map(str, parts))), file=sys.stderr, flush=True)


def clean(record: logging.LogRecord) -> bool:
    """Makes what is logged printable (a filter of `logging`)."""
    record.msg, record.args = printable(record.getMessage()), ()
    return True


def first_difference(old: Any, new: Any, at: Sequence[str] = ()) -> str:
    """Returns, in words, the first place in which two trees of plain values differ.

    Example:
        >>> first_difference({"config": {"matte": "soft"}}, {"config": {"matte": "argmax"}})
        'matte was soft, and is argmax'
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                return first_difference(old.get(key), new.get(key), (*at, key))
    name = ".".join(at[1:] if at[:1] == ("config",) else at)
    return f"{name or 'all'} was {str(old)[:60]}, and is {str(new)[:60]}"
