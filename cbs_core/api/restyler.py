"""``cbs.restyle`` and ``cbs.Restyler``: what the command does, for pictures in memory."""

import io
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cbs_core.api.kinds import taken
from cbs_core.choose.presets import defaults, section
from cbs_core.contract.errors import ConfigError, closest
from cbs_core.frame.pipeline import Result, pack
from cbs_core.frame.plan import Plan
from cbs_core.run import settings
from cbs_core.run.stream import Stream
from cbs_core.run.workshop import Workshop
from cbs_core.temporal.state import State

Routes: TypeAlias = Mapping[str, object] | Sequence[str] | None
"""As ``routes=`` of the command line: a style a class, or classes by the default style."""

Plugin: TypeAlias = str | Mapping[str, object]
"""A plugin's name or preset, or a mapping of ``name`` and its parameters."""

KINDS = ("segmenter", "styler", "compositor", "accelerator")

KEPT = 4
"""Looks that `restyle` keeps ready, the least recently used given up first."""

KNOWN = {*KINDS, "routes", "matte", "segment_size", "segment_every", "select"}
"""What a look is made of."""


@dataclass(frozen=True, slots=True)
class Restyled:
    """A restyled picture and what it was made of; a notebook shows it.

    Letters: ``H W`` the picture.
    """

    picture: Any = field(repr=False)
    """Of the kind that was given."""

    mattes: Mapping[str, NDArray[np.float32]] = field(repr=False)
    """By a route's classes, ``car`` or ``car+truck``: float32 ``(H,W)`` in [0,1]."""

    labels: NDArray[np.int64] = field(repr=False)
    """``(H,W)``, the class that was found at each pixel, an index into `classes`."""

    classes: tuple[str, ...]
    pixels: NDArray[np.uint8] = field(repr=False)
    """The picture itself, RGB ``(H,W,3)``."""

    def _repr_png_(self) -> bytes:
        """Returns the picture as PNG, by which notebooks show it."""
        file = io.BytesIO()
        Image.fromarray(self.pixels).save(file, "png")
        return file.getvalue()


class Restyler:
    """Restyles chosen classes of pictures that follow each other; its nets are built once.

    Several threads may call it; their pictures are restyled one after the other.

    Args:
        routes: the classes and their styles, ``{"car": "wave", "person": {"style": "udnie",
            "strength": 0.6}}``.
        segmenter: the plugin that finds the classes; None is the default of `cbs-run`.
        styler: the plugin that restyles them, likewise.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: of the nets: ``auto``, ``fp32``, ``fp16`` or ``bf16``.
        look: ``compositor``, ``accelerator``, ``matte``, ``segment_size``, ``segment_every`` and
            ``select``, as on the command line.

    Raises:
        CbsError: a plugin, a class or a style cannot be had.

    Example:
        >>> import cbs_core as cbs
        >>> frames = [...]
        >>> with cbs.Restyler({"car": "wave"}) as restyler:  # doctest: +SKIP
        ...     for frame in frames:  # uint8 (H,W,3)
        ...         shown = restyler(frame)  # uint8 (H,W,3)
        ...     restyler.plan = restyler.plan.with_route("person", "udnie")
    """

    def __init__(
        self,
        routes: Routes = None,
        *,
        segmenter: Plugin | None = None,
        styler: Plugin | None = None,
        device: str = "auto",
        precision: str = "auto",
        **look: object,
    ) -> None:
        self._workshop = _workshop(device, precision)
        chosen = {"segmenter": segmenter, "styler": styler, "routes": routes, **look}
        self._stream = Stream(self._workshop.plan(_look(chosen)))
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Ends it."""
        self.close()

    def close(self) -> None:
        """Waits for the picture under way; the nets stay for others until the process ends."""
        with self._lock:
            self._stream.reset()

    @property
    def plan(self) -> Plan:
        """What is done with the pictures from now on; may be set between two, from any thread."""
        return self._stream.plan

    @plan.setter
    def plan(self, plan: Plan) -> None:
        with self._lock:
            self._stream.plan = plan

    @property
    def state(self) -> State:
        """Where the stream of pictures stands; set, it is gone on from there."""
        with self._lock:
            return self._stream.state

    @state.setter
    def state(self, state: State) -> None:
        with self._lock:
            self._stream.state = state

    def __call__(self, picture: Any) -> Any:
        """Returns a picture restyled, of the kind that it is.

        Args:
            picture: a Pillow image, a numpy array ``(H,W,3)`` or ``(H,W,4)``, or a torch tensor
                ``(3,H,W)`` or ``(B,3,H,W)``; uint8, or float in [0,1].

        Raises:
            CbsError: it is no picture, or a plugin failed.
        """
        image, back = taken(picture)
        return back(self._run(image).image.detach().cpu())

    def result(self, picture: Any) -> Restyled:
        """Returns a picture restyled with its mattes and classes; raises as calling it does.

        Args:
            picture: as for calling it, but one alone.
        """
        image, back = taken(picture)
        made = self._run(image)
        height, width = image.shape[2:]
        labels = made.plan.regions.labels(made.logits, (height, width))[0]
        names = ["+".join(route.classes) for route in made.plan.routes]
        return Restyled(
            picture=back(made.image.detach().cpu()),
            mattes={
                name: matte.float().cpu().numpy()
                for name, matte in zip(names, made.mattes[0], strict=True)
            },
            labels=labels.cpu().numpy(),
            classes=made.plan.classes,
            pixels=pack(made.image).cpu().numpy(),
        )

    def _run(self, image: Tensor) -> Result:
        with self._lock, torch.inference_mode():
            stream = self._stream
            stream.check(image.shape[2], image.shape[3])
            return stream(image.to(stream.device))


def restyle(picture: Any, routes: Routes = None, **look: Any) -> Any:
    """Restyles chosen classes of one picture; returns the kind that it is.

    Nets are kept from one call to the next. For frames that follow each other use `Restyler`.

    Args:
        picture: as `Restyler` takes it.
        routes: ``{"person": "starry_night"}``; None restyles people and cars.
        look: as `Restyler` takes it.

    Raises:
        CbsError: with what is wrong and what to do.

    Example:
        >>> import cbs_core as cbs
        >>> import numpy as np
        >>> cbs.restyle(np.zeros((48, 64, 3), np.uint8), {"person": "starry_night"}).shape
        (48, 64, 3)
    """
    # Of one picture a trial of what is fastest takes longer than the picture.
    look.setdefault("accelerator", {"name": "auto", "budget": 0})
    key = repr((routes, sorted(look.items())))
    with _lock:
        if key not in _kept:
            _kept[key] = Restyler(routes, **look)
            if len(_kept) > KEPT:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        one = _kept[key]
        one.state = State()
        return one(picture)


_kept: OrderedDict[str, Restyler] = OrderedDict()
_lock = threading.Lock()


@cache
def _workshop(device: str, precision: str) -> Workshop:
    return Workshop.on(device, precision)


def _look(chosen: Mapping[str, object]) -> settings.Look:
    for key in chosen.keys() - KNOWN:
        raise ConfigError(
            f"unknown key '{key}'{closest(key, KNOWN)} (there are: {', '.join(sorted(KNOWN))})"
        )
    config = defaults()
    for key, value in chosen.items():
        if value is not None:
            config[key] = section(key, value) if key in KINDS and isinstance(value, str) else value
    return settings.look(config)
