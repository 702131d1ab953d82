"""``cbs.restyle`` and ``cbs.Restyler``: what the command does, for pictures in memory."""

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cbs_core.api.kinds import taken
from cbs_core.choose import streams
from cbs_core.choose.presets import defaults, section
from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import ConfigError, closest
from cbs_core.contract.tensors import to_pixels
from cbs_core.frame.pipeline import Result
from cbs_core.frame.plan import Plan
from cbs_core.machine.unfinished import being_written
from cbs_core.run import settings
from cbs_core.run.job import Job
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

KNOWN = {
    *KINDS,
    "routes",
    "matte",
    "confidence",
    "segment_size",
    "style_size",
    "segment_every",
    "steady",
    "select",
}
"""What a look is made of."""


@dataclass(frozen=True, slots=True)
class Restyled:
    """A restyled picture and what it was made of; a notebook shows it.

    Letters: ``H W`` the picture.
    """

    picture: Any = field(repr=False)
    """Of the kind that was given."""

    mattes: Mapping[str, NDArray[np.float32]] = field(repr=False)
    """By a route's classes, ``car``, ``car+truck`` or ``rest``: float32 ``(H,W)`` in [0,1]."""

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
        precision: of the nets: ``auto``, ``fp32``, ``fp16``, ``bf16`` or ``int8``.
        look: ``compositor``, ``accelerator``, ``matte``, ``confidence``, ``segment_size``,
            ``style_size``, ``segment_every``, ``steady`` and ``select``, as on the command line;
            ``steady`` is off by itself.

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
        self._stream = Stream(self._workshop.plan(_look(chosen, precision)))
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
        names = [route.named() for route in made.plan.routes]
        return Restyled(
            picture=back(made.image.detach().cpu()),
            mattes={
                name: matte.float().cpu().numpy()
                for name, matte in zip(names, made.mattes[0], strict=True)
            },
            labels=labels.cpu().numpy(),
            classes=made.plan.classes,
            pixels=to_pixels(made.image).cpu().numpy(),
        )

    def _run(self, image: Tensor) -> Result:
        with self._lock, torch.inference_mode():
            stream = self._stream
            stream.check(image.shape[2], image.shape[3])
            return stream(image.to(stream.device))


def restyle(
    picture: Any,
    routes: Routes = None,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    **look: Any,
) -> Any:
    """Restyles chosen classes of one picture; returns the kind that it is.

    Nets are kept from one call to the next. For frames that follow each other use `Restyler`.

    Args:
        picture: as `Restyler` takes it; or the path of a picture, a folder or a video, which is
            restyled into a new file beside it, ``photo_restyled.png``, whose path is returned.
        routes: ``{"person": "starry_night"}``; None restyles people and cars.
        output: the path to write to instead, where a path is given.
        overwrite: whether a file that is there is replaced.
        look: as `Restyler` takes it.

    Raises:
        CbsError: with what is wrong and what to do.

    Example:
        >>> import cbs_core as cbs
        >>> import numpy as np
        >>> cbs.restyle(np.zeros((48, 64, 3), np.uint8), {"person": "starry_night"}).shape
        (48, 64, 3)
    """
    if isinstance(picture, str | Path):
        return restyle_file(Path(picture), output, look | {"routes": routes}, overwrite=overwrite)
    if output is not None:
        raise ConfigError("output= is for paths: what is returned of a picture in memory is yours")
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


def restyle_file(
    path: Path, output: str | Path | None, look: Mapping[str, Any], *, overwrite: bool = False
) -> Path:
    """Restyles a picture, a folder or a video into another file; returns that one's path.

    Raises:
        ConfigError: a file of the output's name is there, or the look is wrong.
        CbsError: the input cannot be read, or a plugin failed.
    """
    source, given = streams.source_for(str(path)), dict(look)
    device, precision = given.pop("device", "auto"), given.pop("precision", "auto")
    sink = streams.sink_of(source) if output is None else streams.sink_for(str(output))
    target = Path(output).expanduser() if output else _beside(path, streams.unnamed(sink))
    run = settings.Settings(
        look=_look(given, precision),
        source=Choice(source, {"path": str(path)}),
        sink=Choice(sink, {"path": str(target)}),
        scheduler=Choice("auto"),
        input=str(path),
        output=str(target),
        overwrite=overwrite,
    )
    job = Job(run, run_folder=target.parent, workshop=_workshop(device, precision))
    report = job.run()
    if report is None:
        raise KeyboardInterrupt
    report.check()
    return target


def _beside(path: Path, suffix: str) -> Path:
    """Returns a name beside a file that is not taken: ``photo_restyled.png``, ``..._2.png``."""
    path = path.expanduser()
    for number in count(1):
        name = f"{path.stem}_restyled{'' if number == 1 else f'_{number}'}{suffix}"
        target = path.with_name(name)
        if not (os.path.lexists(target) or being_written(target)):
            return target
    raise AssertionError("one of all numbers is free")


def _look(chosen: Mapping[str, object], precision: str) -> settings.Look:
    for key in chosen.keys() - KNOWN:
        raise ConfigError(
            f"unknown key '{key}'{closest(key, KNOWN)} (there are: {', '.join(sorted(KNOWN))})"
        )
    config = defaults() | {"precision": precision}
    for key, value in chosen.items():
        if value is not None:
            config[key] = section(key, value) if key in KINDS and isinstance(value, str) else value
    return settings.look(config)
