"""A module run the fastest way that computes what it computes itself.

Letters: ``B`` batch, ``H W`` the frame.
"""

import copy
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cbs_core.accelerators import check, trying
from cbs_core.accelerators.eager import Eager
from cbs_core.accelerators.store import Store
from cbs_core.accelerators.trying import AT_ONCE, NEAR, SAVES, SHARE, Allowed, Kept, finer_of
from cbs_core.contract.accelerated import Kind, Shapes, shapes
from cbs_core.contract.errors import AcceleratorError
from cbs_core.machine.background import in_turn
from cbs_core.machine.device import precision
from cbs_core.machine.race import Race

log = logging.getLogger("cbs")

Call = Callable[..., Any]

SHAPES = 16
"""How many shapes are kept ready, the least recently used given up first."""

ROUNDS = 5
"""Calls that are timed, of each way in turn."""

FOR_A_TURN = 0.5
"""Seconds that a net that is tried waits for the frame of a live picture that is under way."""

HOPELESS = 1.4
"""Times the fastest's median, above which a way is timed no further: where one round tells them
apart, the others would cost a first run seconds."""

PLAIN = "eager fp32"
"""Label of the module as it is."""


class Way(Protocol):
    """One way to run a module: a compiler in one precision."""

    @property
    def label(self) -> str:
        """``openvino bf16``: an engine, and a precision of it."""
        ...

    @property
    def usual(self) -> float:
        """Seconds that building usually takes from here, for a plan within a budget."""
        ...

    def build(self, *inputs: Tensor) -> Call:
        """Returns the module for the inputs' shapes: float32 in, float32 out, not checked."""
        ...


@dataclass(frozen=True, slots=True)
class EagerWay:
    """The module as it is, in a precision (`Way`); in float32 it is the reference itself."""

    module: nn.Module
    dtype: torch.dtype
    usual: float = 0.0

    @property
    def label(self) -> str:
        """``eager bf16``."""
        return f"eager {precision(self.dtype)}"

    def build(self, *inputs: Tensor) -> Call:
        """Returns the module, or a copy of it in half precision."""
        return Eager(in_precision(self.module, self.dtype), self.dtype)


def reference(module: nn.Module, device: torch.device) -> nn.Module:
    """Returns a module moved to the device in float32, as a way is compared with it."""
    module = module.eval().requires_grad_(False).to(device, torch.float32)
    return module.to(memory_format=torch.channels_last)


def precisions(coarsest: torch.dtype) -> list[torch.dtype]:
    """Returns the precisions to try, the coarsest first, float32 last."""
    return list(dict.fromkeys((coarsest, torch.float32)))


def in_precision(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Returns the module itself in float32, else a copy: the module is the reference."""
    return module if dtype == torch.float32 else copy.deepcopy(module).to(dtype)


class Checked:
    """A module run in the best of some ways (`Accelerated`).

    A way is used for a shape only after it agreed there with the module in eager float32, on the
    frame at hand (`cbs_core.accelerators.check`). One at least must agree. Of several, those that
    do are timed in turn on the first frame, and the fastest is used; at another shape that same
    way, or where it fails there the next fastest.

    What was found is kept in the store, so that the next run of the same module need not look.

    Args:
        module: on its device, in float32.
        kind: what it is for.
        ways: what to try, the most promising first. Where they are timed the last must always
            agree: plain torch in float32.
        store: keeps what was found.
        budget: seconds for trying several ways; one is begun only where its usual time fits in.
            With 0, what an earlier run found and made is used, or else the last way. With None no
            way is timed: the first that agrees is used.
        frames: that the net is run on, as far as that is known. The first way is then built only
            where it is expected to save more than that takes, and all further trying takes a
            tenth of the frames' time at most.
    """

    def __init__(
        self,
        module: nn.Module,
        kind: Kind,
        ways: Sequence[Way],
        store: Store,
        *,
        budget: float | None = None,
        frames: int | None = None,
    ) -> None:
        self._frames = math.inf if frames is None else frames
        self._reference = Eager(module, torch.float32)
        self._kind = kind
        self._words = f"{kind} {type(module).__name__}"
        self._ways = tuple(ways)
        self._store = store
        self._budget = budget
        self._ranked: tuple[Way, ...] = ()
        self._ready: OrderedDict[Shapes, Call] = OrderedDict()
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self.chosen = ""

    @property
    def design(self) -> str | None:
        """What is the same for all modules that one way is the fastest for (`HasDesign`)."""
        return self._store.shared.base

    @property
    def built(self) -> Set[tuple[int, ...]]:
        """The shapes of the picture that are ready."""
        with self._lock:
            return {key[0] for key in self._ready}

    def __call__(self, *inputs: Tensor) -> Any:
        """Returns what the module returns, in float32."""
        call, out = self._call(inputs)
        return call(*inputs) if out is None else out

    def prepare(self, *inputs: Tensor) -> None:
        """Builds and checks for the inputs' shapes, on their values."""
        self._call(inputs)

    def _call(self, inputs: tuple[Tensor, ...]) -> tuple[Call, Any]:
        """Returns what runs inputs like these, and what it made of these where it had to look.

        A net that is built beside a live picture takes that one's processor: it runs once.
        """
        key = shapes(inputs)
        # One thread may build for the next frame's size while another still runs the last one's,
        # which does not wait for that.
        call = self._found(key)
        if call is not None:
            return call, None
        with self._building:
            call = self._found(key)  # another thread may have built it meanwhile
            if call is not None:
                return call, None
            call, out = self._fitted(inputs)
            with self._lock:
                self._ready[key] = call
                if len(self._ready) > SHAPES:
                    self._ready.popitem(last=False)
            return call, out

    def _found(self, key: Shapes) -> Call | None:
        with self._lock:
            if key in self._ready:
                self._ready.move_to_end(key)
            return self._ready.get(key)

    def _fitted(self, inputs: tuple[Tensor, ...]) -> tuple[Call, Any]:
        trial = _Trial(self._reference, inputs, self._kind, self._store)
        with torch.inference_mode():
            if not self._ranked and self._budget is not None:
                self._ranked = self._rank(trial)
            call, way = self._first_fit(trial, self._ranked or self._ways)
        self.chosen = way.label
        # Outside of inference mode a caller may do more with what it is given than with this.
        return call, trial.outputs.get(way.label) if torch.is_inference_mode_enabled() else None

    def _first_fit(self, trial: "_Trial", ways: Sequence[Way]) -> tuple[Call, Way]:
        for way in ways:
            if not trial.admitted(way):
                log.info("preparing the %s for %s (%s)", self._words, trial.size, way.label)
            try:
                return trial.admit(way), way
            except AcceleratorError as error:
                if way is ways[-1]:
                    raise AcceleratorError(
                        f"the {self._words} cannot be run by {way.label} at {trial.size}: {error}. "
                        "Say accelerator=auto or accelerator=eager, or another precision"
                    ) from error
                log.info("%s is passed over: %s", way.label, error)
        raise AssertionError("the last way always agrees")

    def _rank(self, trial: "_Trial") -> tuple[Way, ...]:
        """Returns the ways that agree, the fastest first; those of an earlier run if it told.

        Frames of about as many pixels are told apart no further, nor are modules of one design:
        the fastest way hardly differs. Whether it agrees is looked at for each all the same.
        """
        labels = [way.label for way in self._ways]
        batch, _, height, width = trial.key[0]
        budget, shared = self._budget or 0.0, self._store.shared
        question = self._kind, round(math.log2(batch * height * width)), labels
        kept = Kept.find(shared, *question, near=0 if budget else NEAR)
        if kept is not None:
            found = tuple(self._ways[labels.index(label)] for label in kept.ranked)
            if not budget or not self._goes_on(kept):
                return found if budget else self._at_once(found)
        if not budget:
            return self._ways[-1:]
        allowed = Allowed(lambda: trial.plain, budget, self._frames)
        calls: dict[Way, Call] = {}
        left: list[str] = []
        finer: dict[Way, Way] = {}
        for way in self._ways:
            if way.usual > budget:
                continue
            coarser = next((one for one in calls if finer_of(one.label, way.label)), None)
            if coarser is not None and way is not self._ways[-1]:
                finer[coarser] = way
                continue
            if reason := allowed.refusal(way.usual):
                log.info("%s is not tried: %s", way.label, reason)
                left.append(way.label)
                continue
            log.info("trying the %s for %s (%s)", self._words, trial.size, way.label)
            try:
                with allowed.counted():
                    calls[way] = trial.admit(way)
            except AcceleratorError as error:
                log.info("%s is passed over: %s", way.label, error)
        times = _timed(calls, trial, allowed.end) if len(calls) > 1 else trial.first(calls)
        timed = sorted(calls, key=lambda way: times[way])
        log.info(
            "the %s runs by %s",
            self._words,
            ", ".join(f"{way.label} ({1000 * times[way]:.0f} ms)" for way in timed),
        )
        ranked = tuple(one for way in timed for one in (way, finer.get(way)) if one is not None)
        # A longer run goes on with what is left, and finds on the disk what this one built.
        plain = trial.seconds.get(PLAIN, 0.0)
        Kept([way.label for way in ranked], left, plain).keep(shared, *question)
        return ranked

    def _goes_on(self, kept: Kept) -> bool:
        """Tells whether there is time for what an earlier run left; all is compared anew.

        That is the most promising way where nothing was built, and else all that were left.
        """
        if not kept.left:
            return False
        nothing = kept.ranked == [self._ways[-1].label]
        run = self._frames * kept.plain if self._frames < math.inf else math.inf
        most = min(self._budget or 0.0, (SAVES if nothing else SHARE) * run)
        again = kept.left[:1] if nothing else (*kept.ranked[1:], *kept.left)
        return sum(way.usual for way in self._ways if way.label in again) <= most

    def _at_once(self, ways: Sequence[Way]) -> tuple[Way, ...]:
        """Returns those that come at once: a live picture is not held up by one of a new style."""
        return tuple(way for way in ways if way.usual <= AT_ONCE) or self._ways[-1:]


class _Trial:
    """Ways tried on one frame; the module itself runs on it once, and only if it must."""

    def __init__(
        self, reference: Eager, inputs: tuple[Tensor, ...], kind: Kind, store: Store
    ) -> None:
        self.inputs = inputs
        self.key = shapes(inputs)
        self._reference = reference
        self._kind: Kind = kind
        self._store = store
        self._wanted: Any = None
        self._calls: dict[str, Call] = {}
        self.outputs: dict[str, Any] = {}
        """What ways that were built and run made of the frame, by their labels."""

        self.seconds: dict[str, float] = {}
        """What each took for it that was run, its first call."""

    @property
    def size(self) -> str:
        """``1024x512``, and how many pictures at once where it is not one."""
        batch, _, height, width = self.key[0]
        return f"{width}x{height}" if batch == 1 else f"{batch} of {width}x{height}"

    @property
    def plain(self) -> float:
        """Seconds that the module itself takes in float32."""
        self._want()
        return self.seconds[PLAIN]

    def first(self, ways: Iterable[Way]) -> dict[Way, float]:
        """Returns the seconds of each way's first call; of one that was not run as many as any."""
        return {way: self.seconds.get(way.label, math.inf) for way in ways}

    def _want(self) -> Any:
        """Returns what the module itself makes of the frame."""
        if self._wanted is None:
            with in_turn(FOR_A_TURN):  # a frame that waited for a turn is not slowed by this too
                pass
            begun = trying.now()
            self._wanted = self._reference(*self.inputs)
            _wait(self.inputs[0].device)
            self.seconds[PLAIN] = trying.now() - begun
        return self._wanted

    def admitted(self, way: Way) -> bool:
        """Tells whether a way is known to agree here."""
        return way.label in self._calls

    def admit(self, way: Way) -> Call:
        """Returns a way's callable once it has agreed with the module.

        Raises:
            AcceleratorError: it cannot be built, or differs.
        """
        if way.label in self._calls:
            return self._calls[way.label]
        if isinstance(way, EagerWay) and way.dtype == torch.float32:
            self._calls[way.label] = self._reference
            return self._reference
        question = ("verdict", self._kind, self.key, way.label, check.PSNR, check.IOU)
        kept = self._store.read_json(*question)
        if not isinstance(kept, dict) or not {"passed", "words"} <= kept.keys():
            kept = None
        if kept is not None and not kept["passed"]:
            raise AcceleratorError(str(kept["words"]))
        try:
            call = way.build(*self.inputs)
            with in_turn(FOR_A_TURN):
                begun = trying.now()
                have = call(*self.inputs)
                _wait(self.inputs[0].device)
                self.seconds[way.label] = trying.now() - begun
        except (torch.OutOfMemoryError, AcceleratorError):
            raise
        except Exception as error:  # a compiler may raise anything
            if "KeyboardInterrupt" in str(error):  # Ctrl-C, which compiled code makes its own
                raise KeyboardInterrupt from error
            words = " ".join(str(error).split())[:300]
            raise AcceleratorError(f"{type(error).__name__}: {words}") from error
        if kept is None:
            height, width = self.key[0][2:]
            verdict = check.compare(self._kind, have, self._want(), (height, width))
            kept = {"passed": verdict.passed, "words": verdict.words}
            self._store.write_json(kept, *question)
            if not verdict.passed:
                raise AcceleratorError(verdict.words)
        self._calls[way.label] = call
        self.outputs[way.label] = have
        return call


def _timed(calls: dict[Way, Call], trial: _Trial, end: float) -> dict[Way, float]:
    """Returns each way's median seconds, of calls in turn; its first call's where time was up."""
    race = Race(list(calls), rounds=ROUNDS, hopeless=HOPELESS)
    device = trial.inputs[0].device
    while not race.over and trying.now() < end:
        way = race.turn
        _wait(device)
        race.start(trying.now())
        calls[way](*trial.inputs)
        _wait(device)
        race.came_out(way, trying.now())
    return trial.first(calls) | race.medians


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
