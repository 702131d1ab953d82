"""All that computes: one thread that alone restyles live pictures, in turn, feed by feed.

What is not live (a picture by the API, the gallery's thumbnails) is done beside it, in another
thread with nets of its own, which stands back: it slows the stream down but never holds it up.
"""

import gc
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cbs_core.choose import registry, weights
from cbs_core.choose.sections import Choice
from cbs_core.contract.accelerated import HasDesign
from cbs_core.contract.errors import CbsError, ConfigError, error_line, error_words
from cbs_core.contract.tensors import to_image, to_pixels
from cbs_core.frame import pipeline
from cbs_core.frame.pipeline import Located
from cbs_core.frame.plan import Plan
from cbs_core.frame.windows import Presence, occupancy
from cbs_core.live.feed import Feed, Taken
from cbs_core.live.pictures import encode
from cbs_core.live.wish import RADIUS, Catalog, Wish, first, paced
from cbs_core.machine.background import in_turn, stand_back
from cbs_core.machine.memory import give_back
from cbs_core.run.governed import Governed
from cbs_core.run.settings import Look
from cbs_core.run.stream import Stream
from cbs_core.run.trials import unhurried
from cbs_core.run.workers import Worker
from cbs_core.run.workshop import Workshop
from cbs_core.temporal.state import State

MAIN = "main"
"""The name of the feed of the server's own source."""

GALLERY = 256
"""Painted thumbnails that are kept."""

LEAVE = 60.0
"""Seconds that the frame under way may take at the end."""

TURN = 0.1
"""Seconds that a frame waits at most for a net that is tried beside it, and has all cores."""

PAUSE = 0.25
"""Seconds that a feed rests after its picture could not be restyled."""

log = logging.getLogger("cbs")


class BusyError(CbsError):
    """Too many at once."""


def catalog(look: Look, classes: tuple[str, ...], styles: list[str] | None) -> Catalog:
    """Returns what visitors may choose from.

    Args:
        look: the owner's.
        classes: the segmenter's.
        styles: names or files of styles; None is all that the styler's weights are, or where it
            has none the styler as it is.
    """
    name = look.styler.name
    given = styles if styles is not None else weights.names(name)
    if given and registry.stylers.takes(name, "style"):
        found: dict[str, dict[str, object]] = {Path(one).stem: {"style": one} for one in given}
    else:
        found = {name: {"styler": name, **look.styler.params}}
    compositors = tuple(registry.compositors.names())
    with_radius = frozenset(c for c in compositors if registry.compositors.takes(c, RADIUS))
    return Catalog(classes, found, compositors, with_radius)


class Studio:
    """Feeds, and the threads that work for them.

    Args:
        look: the owner's, from which all others depart.
        workshop: where the live plans are built.
        size: longest side of live pictures at the start, pixels.
        styles: see `catalog`.
        target_fps: frames a second that are held at the start; None: as they come.
        feeds: how many there may be at once.
        waiting: how many pictures may wait for `restyle`.

    Raises:
        CbsError: a plugin cannot be had.
    """

    def __init__(
        self,
        look: Look,
        workshop: Workshop,
        *,
        size: int = 640,
        styles: list[str] | None = None,
        target_fps: int | None = None,
        feeds: int = 4,
        waiting: int = 4,
    ) -> None:
        self.base = unhurried(look)
        self.workshop = workshop
        plan = workshop.plan(look)
        self.catalog = catalog(look, plan.classes, styles)
        usual = _usual(plan, self.catalog.styles)
        self.wish = first(look, self.catalog, size, usual=usual, target_fps=target_fps)
        # The look by the wish may differ in words from the owner's, and nothing may be built twice.
        self.by_point = plan.selection is not None and plan.selection.alone
        """Whether the segmenter finds what lies at a place alone, so that a click is one."""

        self.main = Feed(MAIN, workshop.plan(self.wish.look(self.base, self.catalog)), self.wish)
        self.feeds: dict[str, Feed] = {MAIN: self.main}
        self._most = feeds
        self._beside = Workshop(workshop.device, workshop.dtype)
        self._pool = ThreadPoolExecutor(1, "cbs-beside", initializer=stand_back)
        self._slots = threading.Semaphore(waiting)
        self._painted: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()
        self._due = threading.Event()
        self._ended = False
        self._wishes: dict[str, Wish] = {}
        self._lock = threading.RLock()  # a plan may be there before its callback is
        self._worker = Worker(self._work, "cbs-live")

    def prepare(self, look: Look, pixels: Tensor) -> None:
        """Finds out by what each net runs fastest, before the first frame, those of all styles too.

        Of nets of one design one is tried; a style that cannot be had is told when it is chosen.

        Args:
            look: the owner's, with trials.
            pixels: uint8 ``(H,W,3)``, like a live picture.

        Raises:
            CbsError: a net of the owner's look cannot be built.
        """
        image = pipeline.upload(pixels, self.workshop.device)
        pipeline.prepare(image, self.workshop.plan(look))
        known: set[str | None] = set()
        for style in self.catalog.styles:
            wish = Wish().changed({"routes": {self.catalog.classes[0]: style}}, self.catalog)
            try:
                plan = self.workshop.plan(wish.look(look, self.catalog))
                nets = [net for _, net in plan.facts.accelerated if isinstance(net, HasDesign)]
                designs = {net.design for net in nets}
                if not designs <= known:
                    pipeline.prepare(image, plan)
                known |= designs
            except CbsError as error:
                log.info("the style '%s' cannot be had: %s", style, error)

    def start(self) -> None:
        """Begins to restyle."""
        # To look for garbage among all that libraries have made holds every thread up for 0.2 s.
        gc.freeze()
        self._worker.start()

    def close(self) -> None:
        """Ends all threads, after the pictures under way."""
        self._ended = True
        self._due.set()
        if not self._worker.wait(LEAVE):  # a program that ends under a net's feet may crash
            log.warning("the frame under way does not come to its end; its thread is left")
        self._pool.shutdown(cancel_futures=True)
        self.workshop.close()
        self._beside.close()
        gc.unfreeze()

    def open_feed(self, wish: Wish | None = None) -> Feed:
        """Returns a feed for a visitor's own pictures, with the main one's look to begin with.

        Raises:
            BusyError: there are as many as may be.
        """
        with self._lock:
            if len(self.feeds) > self._most:
                raise BusyError("all places for cameras of visitors are taken: try again later")
            wish = replace(wish or self.main.wish, only=None)  # theirs are other pictures
            feed = Feed(Feed.new_name(), self.main.stream.plan, wish)
            self.feeds[feed.name] = feed
            if self.main.wish.only is not None:
                self._again(feed)
        return feed

    def close_feed(self, feed: Feed) -> None:
        """Forgets a visitor's feed."""
        with self._lock:
            self.feeds.pop(feed.name, None)
            self._wishes.pop(feed.name, None)
        # A call's frames and codecs leave holes in the heap: an evening of visitors would add up.
        # Who brought no picture left none, and may come and go as often as requests are let in.
        if feed.came:
            with suppress(RuntimeError):  # it is being closed
                self._pool.submit(give_back)

    def put(self, feed: Feed, taken: Taken) -> None:
        """Gives a feed its next picture."""
        feed.put(taken)
        self._due.set()

    def change(self, feed: Feed, change: object) -> Wish:
        """Changes what a feed looks like; the plan is built beside the stream, the newest wins.

        Raises:
            ConfigError: the change is wrong; all stays as it was.
        """
        with self._lock:
            wish = feed.wish.changed(change, self.catalog)
            other = self._look(feed, wish) != self._look(feed)
            if feed.governed is not None and paced(wish) != paced(feed.wish):
                feed.governed, other = None, True
            feed.wish = wish
            if other:
                self._again(feed)
        feed.tell()
        return wish

    def _look(self, feed: Feed, wish: Wish | None = None) -> Look:
        """Returns what a feed looks like by its own wish, or by another."""
        wish = wish or feed.wish
        if feed.like is None:
            return wish.look(self.base, self.catalog)
        return wish.look_at(self.base, self.catalog, *feed.like.shape[2:])

    def _again(self, feed: Feed) -> None:
        """Builds the plan that a feed is to have now, after one that is being built."""
        self._wishes[feed.name] = feed.wish
        if not feed.building:
            self._order(feed)

    def _order(self, feed: Feed) -> None:
        wish = self._wishes.pop(feed.name, None)
        if wish is None or self._ended:
            return
        look = self._look(feed, wish)
        if feed.governed is not None:
            look = feed.governed.lowered(look)
        feed.expect(self.workshop.order(look, feed.like), wish, lambda: self._next(feed))

    def _hold(self, feed: Feed, pixels: Tensor) -> None:
        """Holds a frame rate, where a feed's visitors asked for one."""
        with self._lock:
            size, wish = (pixels.shape[0], pixels.shape[1]), feed.wish
            held = feed.governed
            if held is not None and held.size != size:
                held = feed.governed = None
                self._again(feed)
            if held is None and wish.target_fps is not None and not feed.building:
                held = feed.governed = Governed(
                    feed.stream,
                    self.workshop,
                    lambda: self._look(feed),
                    meter=feed.meter,
                    target_fps=wish.target_fps,
                    size=size,
                )
            if held is not None:
                held(pixels)

    def _next(self, feed: Feed) -> None:
        with self._lock:
            self._order(feed)

    def _work(self) -> None:
        while not self._ended:
            self._due.wait()
            self._due.clear()
            while not self._ended and self._round():
                pass

    def _round(self) -> bool:
        """Restyles one picture of each feed; tells whether there was any."""
        some = False
        for feed in list(self.feeds.values()):
            taken = feed.take()
            if taken is None:
                continue
            some = True
            try:
                if feed.wish.only is not None and feed.resized(taken):
                    self.change(feed, {"only": None})  # it is followed by pixels
                with in_turn(TURN):
                    feed.run(taken)
                feed.well()
                self._hold(feed, taken.pixels)
            except Exception as error:  # a plugin may raise anything, and the show goes on
                known = isinstance(error, CbsError)
                feed.fail(error_words(error) if known else error_line(error))
                log.warning("a frame was passed over: %s", feed.error)
                feed.tell()
                time.sleep(PAUSE)
        return some

    def restyle(self, pixels: Tensor, change: object) -> "Future[NDArray[np.uint8]]":
        """Restyles one picture, uint8 ``(H,W,3)``, by the main feed's look with a change.

        Raises:
            ConfigError: the change is wrong.
            BusyError: too many wait.
        """
        wish = replace(self.main.wish, only=None).changed(change, self.catalog)
        look = self._plain(wish.look_at(self.base, self.catalog, *pixels.shape[:2]))
        if not self._slots.acquire(blocking=False):
            raise BusyError("too many pictures wait: try again in a second")

        def work() -> NDArray[np.uint8]:
            try:
                with torch.inference_mode():
                    stream = Stream(self._beside.plan(look), State())
                    stream.check(pixels.shape[0], pixels.shape[1])
                    image = to_image(pixels.to(stream.device))
                    return to_pixels(stream(image).image).cpu().numpy()
            finally:
                self._slots.release()

        try:
            return self._pool.submit(work)
        except RuntimeError:  # it is being closed
            self._slots.release()
            raise BusyError("the studio is being closed") from None

    def painted(self, style: str, crop: NDArray[np.uint8]) -> "Future[bytes]":
        """Returns a small picture ``(h,w,3)`` all in one style, as JPEG.

        Raises:
            ConfigError: no such style.
        """
        if style not in self.catalog.styles:
            raise ConfigError("no such style")
        key = (style, crop.tobytes())
        done: Future[bytes] = Future()
        if key in self._painted:
            done.set_result(self._painted[key])
            return done

        def work() -> bytes:
            made = encode(self._paint(style, torch.from_numpy(crop)))
            self._painted[key] = made
            if len(self._painted) > GALLERY:
                self._painted.popitem(last=False)
            return made

        return self._pool.submit(work)

    def _paint(self, style: str, crop: Tensor) -> NDArray[np.uint8]:
        name = self.catalog.classes[0]
        wish = Wish().changed({"routes": {name: style}}, self.catalog)
        plan = self._beside.plan(self._plain(wish.look(self.base, self.catalog)))
        with torch.inference_mode():
            image = to_image(crop.to(plan.device))
            mattes = torch.ones_like(image[:, :1])
            cells = occupancy(mattes).cpu().numpy() > 0
            located = Located(mattes, Presence(cells, 0))
            styled, _ = pipeline.paint(image, located, plan, State().styling)
            return to_pixels(next(iter(styled.values()))).cpu().numpy()

    def _plain(self, look: Look) -> Look:
        """Returns it by plain torch: of one picture nothing is worth preparing."""
        return replace(look, accelerator=Choice("eager"))


def _usual(plan: Plan, styles: Iterable[str]) -> str:
    """Returns the style whose weights a plan has read, which its styler took by itself."""
    styles = tuple(styles)
    stems = {re.sub(r"_width\d+$", "", file.path.stem) for file in plan.facts.weights}
    return next((style for style in styles if style in stems), styles[0])
