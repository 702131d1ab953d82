"""What a process leaves to read that dies in a library: `faulthandler`'s list of the calls in it.

No code of ours runs then, so that what is told has to be there before: each call of a plugin is
made in a frame that bears the plugin's name, which the list shows like any function's.
"""

import faulthandler
from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import TypeVar

T = TypeVar("T")


def enable() -> None:
    """Has the calls of all threads listed on stderr where a signal of the machine ends them.

    Those of Python's debugger, or of whoever tests, are left to them.
    """
    if not faulthandler.is_enabled():
        faulthandler.enable(2)


def calling(what: str, call: Callable[..., T], /, *args: object, **kwargs: object) -> T:
    """Calls in the name of ``what``: ``styler 'pastel' of cbs-pastel 0.1.0``."""
    return _frame(what)(call, *args, **kwargs)  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _frame(what: str) -> FunctionType:
    def named(call: Callable[..., T], /, *args: object, **kwargs: object) -> T:
        return call(*args, **kwargs)

    return FunctionType(named.__code__.replace(co_name=what, co_qualname=what), {})
