"""The interfaces between the framework and its plugins.

They are protocols: a plugin fills one by having its methods, and need not import `cbs_core`.

Letters: ``B`` batch, ``K`` classes, ``N`` objects, ``H W`` the frame, ``h w`` a model's output.

The plugin owns normalisation, resizing and padding. The core owns device, dtype, ``eval()``,
``inference_mode`` and acceleration: a plugin that is a `torch.nn.Module` is moved and cast by the
core. A plugin may not wait for the device (``.item()``, ``.cpu()``, ``bool(tensor)``).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from cbs_core.contract.accelerated import Accelerated, Kind
from cbs_core.contract.types import Instances, RawFrame, StreamInfo, WeightsFile

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from cbs_core.contract.task import Task


@runtime_checkable
class Segmenter(Protocol):
    """Finds classes: ``(B,3,H,W)`` RGB in [0,1] -> ``(B,K,h,w)`` logits.

    ``h, w`` may be smaller than the frame; the core resizes bilinearly (align_corners=False).
    """

    classes: tuple[str, ...]
    """The K class names, in channel order."""

    def __call__(self, image: "Tensor", /) -> "Tensor":
        """Returns the logits."""
        ...


@runtime_checkable
class Styler(Protocol):
    """Restyles a whole picture: ``(B,3,H,W)`` RGB in [0,1] -> the same size, range and dtype."""

    def __call__(self, image: "Tensor", /) -> "Tensor":
        """Returns the styled picture."""
        ...


@runtime_checkable
class Compositor(Protocol):
    """Blends one style into the picture: ``U = A * T + (1 - A) * I`` or a refinement of it.

    Several routes are superposed by the core (`cbs_core.frame.pipeline`), so a compositor must be
    linear in ``alpha`` up to rounding, as blurring is; or at least in its scale, which is a route's
    strength, and then mattes that touch are superposed as it makes of each what it may.

    One whose attribute ``reach`` says beyond how many pixels from the matte the picture comes out
    as it is can be used where only the matte's surroundings are restyled (``styler.where=mask``).
    """

    def __call__(self, image: "Tensor", styled: "Tensor", alpha: "Tensor", /) -> "Tensor":
        """Returns the picture ``(B,3,H,W)`` in [0,1].

        Args:
            image: ``(B,3,H,W)``, the original I.
            styled: ``(B,3,H,W)``, the styled picture T.
            alpha: ``(B,1,H,W)`` in [0,1], the matte A.
        """
        ...


@runtime_checkable
class Source(Protocol):
    """Gives frames; a context manager that owns its file or device.

    The constructor takes what ``input=`` names as its first parameter, ``path``. A source that can
    go on after a damaged packet counts those in an attribute ``damaged``. What it cannot keep, a
    line each for the user, stands in ``info.notes``, and where that shows later, in an attribute
    ``notes``, as a sink's does. One that waits for frames (``info.live``) is `Stoppable`.
    """

    info: StreamInfo
    """Known from `__enter__` on."""

    def __enter__(self) -> Self:
        """Opens the input.

        Raises:
            SourceError: where it cannot be read.
        """
        ...

    def __exit__(self, *exc: object) -> None:
        """Frees the input."""
        ...

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames in order, `RawFrame.index` from 0 without gaps.

        Each is memory of its own: it is still read when the next one is asked for.
        """
        ...


@runtime_checkable
class Stoppable(Protocol):
    """A source that can be stopped while it waits for a frame: a camera, a stream, a pipe.

    A run that ends calls it, whatever it ends by. One that cannot be stopped and does not return
    is left behind with a warning, so every source that may wait should have it.
    """

    def stop(self) -> None:
        """Ends a wait for a frame at once: the iterator ends, or raises, which nobody hears.

        Called from another thread, at any time from `Source.__enter__` to after `Source.__exit__`,
        and again. It returns at once and frees nothing: `Source.__exit__` does.
        """
        ...


@runtime_checkable
class Sink(Protocol):
    """Takes frames. The constructor takes what ``output=`` names as its first parameter, ``path``.

    A sink writes under a temporary name; only `close` gives the output its own. It is opened in
    one thread; `write`, and then `close` or `abort`, are called in another.
    """

    def open(self, info: StreamInfo, /) -> None:
        """Prepares the output for frames of this stream.

        Raises:
            SinkError: where it cannot be written.
        """
        ...

    def write(self, frame: RawFrame, /) -> None:
        """Takes the next frame, and leaves it as it is; they come in order.

        Raises:
            SinkLostError: where it cannot be written, and the frames before it are whole: `close`
                is called for them.
            SinkError: where it cannot be written, and nothing can be kept: `abort` is called.
            SinkClosedError: where nobody looks any more, as at a window that was closed.
        """
        ...

    def close(self, *, complete: bool = True) -> None:
        """Finishes the output under its own name.

        Args:
            complete: False where the stream was cut, by Ctrl-C or an error: what was written so
                far is kept and made playable, with the sound up to there.
        """
        ...

    def abort(self) -> None:
        """Removes what was written; also called after an error in any of the above."""
        ...


@runtime_checkable
class LiveSink(Sink, Protocol):
    """A sink that shows frames as they come (a window, a virtual camera, a broadcast).

    Beside other sinks it is given the newest frame: late ones are dropped, so that a slow one holds
    nothing up. A file, which has no such attribute, is given every frame.
    """

    live: bool
    """Whether it is one; a sink that can be either says so after `Sink.open`."""


@runtime_checkable
class Scheduler(Protocol):
    """Drives frames through a pipeline; ``serial`` is the oracle that others must equal.

    Built with ``(stream, *, meter, observe, **params)``; see
    `cbs_core.run.schedulers.serial`. One that has threads of its own is `Closable`; one that
    chooses has a `Choosing`.
    """

    def submit(self, raw: RawFrame, /) -> None:
        """Takes the next frame."""
        ...

    def ready(self) -> Iterator[RawFrame]:
        """Yields, in order, the frames that are done."""
        ...

    def drain(self) -> Iterator[RawFrame]:
        """Yields, in order, all frames that were submitted and not yet yielded."""
        ...


@runtime_checkable
class Closable(Protocol):
    """A scheduler with threads or buffers of its own."""

    def close(self) -> None:
        """Ends them, frames under way included; may be called at any time, and again."""
        ...


@runtime_checkable
class Choosing(Protocol):
    """A plugin that chooses among several ways; the report says which, and why."""

    choice: str
    """``pipeline (38.1 ms a frame, serial 61.0 ms)``."""


@runtime_checkable
class Accelerator(Protocol):
    """Makes a module fast on a device."""

    def __call__(
        self, module: "nn.Module", /, *, device: "torch.device", dtype: "torch.dtype", kind: Kind
    ) -> Accelerated:
        """Returns the module made fast.

        Args:
            module: takes a picture ``(B,3,H,W)``, given in the dtype it computes in, and any other
                tensors in float32; returns a tensor or a tuple of tensors. It may be changed.
            device: where its inputs lie.
            dtype: the coarsest it may compute in.
            kind: what it is for.

        Raises:
            CbsError: this accelerator cannot be had here.
        """
        ...


@runtime_checkable
class MatteStyler(Styler, Protocol):
    """A styler that also uses where its style will show (a Gram matrix over the matte, say)."""

    def style_matte(self, image: "Tensor", matte: "Tensor", /) -> "Tensor":
        """Returns the styled picture, as `__call__` does; called in its place.

        Args:
            image: ``(B,3,H,W)`` RGB in [0,1].
            matte: ``(B,1,H,W)`` in [0,1]; pixels where it is 0 will not be seen.
        """
        ...


@runtime_checkable
class RegionStyler(Styler, Protocol):
    """A styler that can restyle windows of a picture as it restyles the whole.

    Whatever it takes from the whole picture (the means and variances of instance normalisation)
    are its statistics: one module measures them, the other is given them. The core accelerates
    both, and chooses the windows.
    """

    halo: int
    """Pixels around a window that are styled with it and cut off: those that a styled pixel
    depends on. A multiple of ``align``."""

    align: int
    """Pixels: windows start at multiples of it, and end at one or as far beyond one as the frame
    does."""

    def dense_module(self) -> "nn.Module":
        """Returns ``(B,3,H,W)`` -> the styled picture and its statistics, float32 ``(B,S)``."""
        ...

    def window_module(self) -> "nn.Module":
        """Returns ``(B,3,h,w)``, ``(1,S)`` statistics -> the styled windows.

        A window's edge that is the frame's gives what the whole picture gives there.
        """
        ...


@runtime_checkable
class InstanceSegmenter(Segmenter, Protocol):
    """A segmenter that tells one object of a class from another; ``classes[0]`` is the background.

    Its `__call__` is usually ``cbs_core.temporal.objects.logits(self.instances(image), K)``.
    It may wait for the device, because how many objects there are depends on the picture; the core
    runs it eagerly, in the precision by autocast, because detectors cannot be traced.
    """

    def instances(self, image: "Tensor", /) -> list[Instances]:
        """Returns the objects of each of the B frames; called in the place of `__call__`.

        Args:
            image: ``(B,3,H,W)`` RGB in [0,1].
        """
        ...


@runtime_checkable
class HasWeights(Protocol):
    """A plugin that read weight files; the report names each with its SHA-256."""

    weights_files: tuple[WeightsFile, ...]
    """In the order of reading."""


@runtime_checkable
class HasMemory(Protocol):
    """A plugin that knows what a frame costs, so that one too large is refused beforehand."""

    bytes_per_pixel: int
    """Peak bytes of float32 working memory for each pixel of the frame."""


@runtime_checkable
class Resettable(Protocol):
    """A plugin with state from frame to frame."""

    def reset(self) -> None:
        """Forgets it: the next frame is the first of another stream."""
        ...


@runtime_checkable
class Stateful(Resettable, Protocol):
    """A plugin whose state from frame to frame is a value, so that a stream can be gone on with.

    Frame n+1 must come out the same after `restore` of what `state` was after frame n, in whatever
    process, and whatever the plugin did in between.
    """

    def state(self) -> Mapping[str, Any]:
        """Returns it: tensors, numbers, texts, None, and lists, tuples and mappings of these.

        Asked for after each frame: tensors need not be copied if they are not written to again.
        """
        ...

    def restore(self, state: Mapping[str, Any], /) -> None:
        """Goes on from what `state` returned; its tensors may lie on the host."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """A segmenter's or styler's class that `cbs-train` can train.

    ``cbs-train KIND=NAME`` calls `task` with what was given of ``data``, ``style``, ``init`` and
    ``teacher``, with ``seed`` and ``steps``, with the plugin's own parameters that are not null,
    and with those of ``recipe`` (the preset ``conf/recipe/KIND/NAME.yaml``). What its signature
    lacks is refused in one line.
    """

    @classmethod
    def task(cls, **params: Any) -> "Task":
        """Returns what is trained, on the host.

        Raises:
            CbsError: the data or a parameter is wrong.
        """
        ...


@runtime_checkable
class HasReach(Protocol):
    """A compositor that changes nothing far from the matte.

    It can be used where only the matte's surroundings are restyled (``styler.where=mask``).
    """

    reach: int
    """Pixels from the matte beyond which the picture comes out as it is."""


@runtime_checkable
class CountsKept(Protocol):
    """A sink that may keep fewer frames than it took: those of a film that broke off."""

    kept: int | None
    """Frames in the closed output; None: all that were written."""


@runtime_checkable
class CountsDamage(Protocol):
    """A source that goes on after what it could not decode; the report tells how often."""

    damaged: int
    """Packets that were passed over so far."""
