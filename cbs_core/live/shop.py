"""What the server's handlers share: the studio, recordings, and what they tell of a feed."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from starlette.requests import HTTPConnection

from cbs_core.contract.errors import CbsError
from cbs_core.live.feed import Feed
from cbs_core.live.inputs import Inputs
from cbs_core.live.recording import Recording
from cbs_core.live.studio import MAIN, Studio

FRESH = 20.0
"""Seconds for which a class' picture, on which styles are painted, is kept."""

LISTED = 32
"""Recordings that pages have, the newest of all feeds; the files of others stay."""


class MissingError(CbsError):
    """What a request names is not there."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a visitor may ask for."""

    upload_bytes: int = 16 * 2**20
    upload_pixels: int = 8_000_000
    watchers: int = 16
    """At once."""


class Opening:
    """A shop that is got ready while its page is served already.

    Args:
        shop: where it is there from the first.
    """

    def __init__(self, shop: "Shop | None" = None) -> None:
        self.shop = shop
        self.told = "the nets are being prepared"
        """What is done until then, for visitors."""


@dataclass
class Shop:
    """What the handlers share."""

    studio: Studio
    folder: Path
    """Where recordings go."""

    limits: Limits
    inputs: Inputs
    """The server's own source."""

    reopen: Callable[[], object] = lambda: None
    """Has it opened anew."""

    watchers: int = 0
    recording: Recording | None = None
    recordings: dict[str, Recording] = field(default_factory=dict)
    crops: OrderedDict[tuple[str, int], tuple[float, NDArray[np.uint8]]] = field(
        default_factory=OrderedDict
    )
    lock: threading.Lock = field(default_factory=threading.Lock)

    def feed(self, request: HTTPConnection) -> Feed:
        """Returns the feed that a request names, the main one where it names none.

        Raises:
            MissingError: there is none such.
        """
        name = request.query_params.get("feed", MAIN)
        found = self.studio.feeds.get(name)
        if found is None:
            raise MissingError("there is no such feed: it ended, or never was")
        return found

    def state(self, feed: Feed) -> dict[str, object]:
        """Returns what a page shows of a feed."""
        shown = feed.shown
        recording, governed = self.recording, feed.governed
        own = recording is not None and recording.feed is feed and not recording.over
        return {
            "feed": feed.name,
            "source": self.inputs.shown if feed.name == MAIN else "camera",
            "look": feed.wish.to_json(),
            "building": feed.building,
            "error": feed.error,
            "lowered": governed.line() if governed is not None else "",
            "size": [*shown.restyled.shape[1::-1]] if shown else None,
            "in_view": [
                {"class": index, "name": self.studio.catalog.classes[index], "share": share}
                for index, share in (shown.in_view() if shown else [])
            ],
            "recording": None
            if recording is None or not own
            else {"frames": recording.frames, "seconds": round(recording.seconds, 1)},
            "recordings": [
                {"name": name, "frames": one.frames, "error": one.error, "note": one.note}
                for name, one in self.recordings.items()
                if one.feed is feed and one.over
            ],
            "watchers": feed.watched,
            **feed.figures(),
        }

    def began(self, recording: Recording) -> None:
        """Lists a recording, under the lock; the oldest is listed no longer."""
        # Another mapping: states are told from this one meanwhile.
        listed = [*self.recordings.values(), recording][-LISTED:]
        self.recordings = {one.path.name: one for one in listed}
        self.recording = recording

    def forget(self, feed: Feed) -> None:
        """Lets go of what belongs to a feed that is over: nobody can ask for it any more."""
        with self.lock:
            self.recordings = {n: one for n, one in self.recordings.items() if one.feed is not feed}

    def crop(self, feed: Feed, index: int) -> NDArray[np.uint8] | None:
        """Returns a class' picture, the same for a while, so that what is painted on it is kept."""
        key, now = (feed.name, index), time.monotonic()
        with self.lock:
            kept = self.crops.get(key)
            if kept is not None and now - kept[0] < FRESH:
                return kept[1]
        shown = feed.shown
        found = None if shown is None else shown.crop(index)
        if found is None:
            return kept[1] if kept is not None else None
        with self.lock:
            self.crops[key] = (now, found)
            if len(self.crops) > 128:
                self.crops.popitem(last=False)
        return found

    def close(self) -> None:
        """Ends the recording under way."""
        with self.lock:
            recording, self.recording = self.recording, None
        if recording is not None:
            recording.close()
