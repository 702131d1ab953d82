"""The server's own source, read for as long as the studio is open.

A file is played at its own pace, again and again; a live source gives frames as they come, and is
opened anew, after growing pauses, where it breaks off.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from cbs_core.contract.errors import CbsError, SourceError
from cbs_core.contract.interfaces import Source
from cbs_core.contract.live import HasSound
from cbs_core.contract.types import RawFrame
from cbs_core.live.feed import Taken
from cbs_core.live.pictures import fitted
from cbs_core.live.studio import Studio
from cbs_core.run.workers import PATIENCE, Worker, opened, stop, told

STILL = 0.2
"""Seconds after which a source of one picture gives it again, so that changes show."""

PAUSES = (1, 2, 4, 8)
"""Seconds before a source that broke off is opened again; the last one for ever."""

LONG = 5.0
"""Seconds: no file makes its viewers wait longer for its next frame."""

log = logging.getLogger("cbs")


class Reading:
    """A thread that gives the main feed its pictures.

    Args:
        studio: whose main feed it is.
        create: builds the source, as often as it must be opened.
    """

    def __init__(self, studio: Studio, create: Callable[[], Source]) -> None:
        self._studio = studio
        self._create = create
        self._source: Source | None = None
        self._ended = threading.Event()
        self._due = threading.Event()
        """Set where the source that is open is to be left."""

        self._tries = 0
        self._told: str | None = None
        self._worker = Worker(self._read, "cbs-live-reader")

    def start(self) -> None:
        """Begins to read."""
        self._worker.start()

    def again(self) -> None:
        """Opens the source anew: another is chosen."""
        self._tries = 0
        self._due.set()
        if self._source is not None:
            stop(self._source)

    def close(self) -> None:
        """Ends it, within a second."""
        self._ended.set()
        self.again()
        if not self._worker.wait(PATIENCE):
            log.warning("the source does not return; its thread is left")

    def _read(self) -> None:
        while True:
            self._due.clear()
            if self._ended.is_set():
                return
            try:
                self._once()
                self._tries = 0
            except Exception as error:
                if self._ended.is_set():
                    return
                self._told = self._studio.main.error = str(told(error, "source", SourceError))
                self._studio.main.tell()
                pause = PAUSES[min(self._tries, len(PAUSES) - 1)]
                self._tries += 1
                log.warning("%s; it is tried again in %d s", self._studio.main.error, pause)
                self._due.wait(pause)

    def _once(self) -> None:
        source = self._create()
        with opened(source):
            self._source = source
            if isinstance(source, HasSound):
                source.hear(self._studio.main.hear)
            live, start, only, count = source.info.live, time.monotonic(), None, 0
            first: RawFrame | None = None
            for raw in source:
                if self._due.is_set():
                    return
                self._well()
                first = first or raw
                if not live:
                    due = start + min(float(raw.pts - first.pts), LONG * (count + 1))
                    if self._due.wait(max(0.0, due - time.monotonic())):
                        return
                self._give(raw)
                only, count = raw, count + 1
            if only is not None and not live:
                lasts = only.duration if only.duration and count > 1 else 1 / source.info.rate
                self._rest(only, float(lasts), still=count == 1)

    def _well(self) -> None:
        """Takes back what was wrong with the source, and nothing else that is wrong."""
        if self._told is not None and self._studio.main.error == self._told:
            self._studio.main.error = None
        self._told, self._tries = None, 0

    def _rest(self, last: RawFrame, seconds: float, *, still: bool) -> None:
        """Waits for as long as the last frame is shown; a picture alone is given on and on."""
        if not still:
            self._due.wait(min(seconds, LONG))
        while still and not self._due.wait(STILL):
            self._give(last)

    def _give(self, raw: RawFrame) -> None:
        feed = self._studio.main
        captured = raw.captured if raw.captured is not None else time.monotonic()
        with suppress(CbsError):
            pixels = fitted(raw.pixels, feed.wish.size)
            self._studio.put(feed, Taken(pixels, captured))
