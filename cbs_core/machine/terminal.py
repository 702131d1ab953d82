"""What is printed: foreign text reaches a terminal as text, and a reader that left ends a run."""

from collections.abc import Iterable
from typing import NoReturn

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from cbs_core.machine.text import printable


class PlainConsole(Console):
    """A console that takes no markup, prints no control characters of a text, and ends as pipes do.

    Args:
        quiet: whether nothing is printed.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(quiet=quiet, highlight=False, soft_wrap=True, markup=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Called by rich for whatever it prints."""
        for one in super().render(renderable, options):
            # rich's own control segments move the cursor of a progress bar.
            yield one if one.control else Segment(printable(one.text), one.style)

    def on_broken_pipe(self) -> NoReturn:
        """Called by rich, which would exit with 1."""
        raise BrokenPipeError
