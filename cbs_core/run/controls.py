"""What a person changes in a stream that runs: the next style, a little more strength."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from cbs_core.choose import weights
from cbs_core.contract.errors import error_words
from cbs_core.frame.plan import Plan
from cbs_core.frame.routes import Route
from cbs_core.run.settings import Look
from cbs_core.run.stream import Stream
from cbs_core.run.workshop import Workshop

log = logging.getLogger("cbs")


class Controls:
    """Routes, styles and strengths of a running stream (`cbs_core.contract.live.Controls`).

    New plans are built in the workshop's thread, and taken when they are done; of several wishes
    the last counts.

    Args:
        stream: whose plan is changed.
        workshop: builds plans.
        look: what the stream's plan was built from.
    """

    def __init__(self, stream: Stream, workshop: Workshop, look: Look) -> None:
        self._stream = stream
        self._workshop = workshop
        self._look = look
        self._lock = threading.Lock()
        self._routes: tuple[Route, ...] = stream.plan.routes
        self._at = 0
        self._wish = 0
        self.lowered: Callable[[Look], Look] = lambda look: look
        """What becomes of a look where a frame rate is held (`Governed.lowered`)."""

    @property
    def look(self) -> Look:
        """What is wanted now, at full quality."""
        return self._look.with_routes(self._routes)

    def route(self, step: int, /) -> str:
        """Chooses the next route, or the one before."""
        with self._lock:
            self._at = (self._at + step) % max(len(self._routes), 1)
            return self._told()

    def style(self, step: int, /) -> str:
        """Gives it the next style of those that its styler has by name."""
        with self._lock:
            if not self._routes:
                return self._told()
            route = self._routes[self._at]
            names = list(weights.everywhere(route.styler))
            if not names:
                return f"the styler {route.styler} has no list of styles"
            now = names.index(route.label) if route.label in names else -1 if step > 0 else 0
            name = names[(now + step) % len(names)]
            params = {key: value for key, value in route.params.items() if key != "weights"}
            self._change(replace(route, params={**params, "style": name}))
            return self._told()

    def strength(self, change: float, /) -> str:
        """Adds to its strength."""
        with self._lock:
            if self._routes:
                route = self._routes[self._at]
                sum_ = round(min(max(route.strength + change, 0.0), 1.0), 3)
                self._change(replace(route, strength=sum_))
            return self._told()

    def _told(self) -> str:
        if not self._routes:
            return "no class has a style"
        route = self._routes[self._at]
        return f"{route.named()}: {route.label} {route.strength:.0%}"

    def _change(self, route: Route) -> None:
        self._routes = (*self._routes[: self._at], route, *self._routes[self._at + 1 :])
        self._wish += 1
        self._order(self._wish)

    def _order(self, wish: int) -> None:
        look = self.lowered(self.look)
        ordered = self._workshop.order(look)
        ordered.add_done_callback(lambda done: self._take(done, wish, look))

    def _take(self, done: "Future[Plan]", wish: int, look: Look) -> None:
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            log.warning("%s", error_words(error) or type(error).__name__)
        elif wish == self._wish:
            if self.lowered(self.look) == look:
                self._stream.plan = done.result()
            else:  # the rate is held by another level by now
                self._order(wish)
