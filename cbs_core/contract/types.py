"""The values that travel through the pipeline: validated on construction, shown by shape.

Letters: ``B`` batch, ``K`` classes, ``N`` objects, ``H W`` the frame's height and width, ``h w`` a
model's output.

torch is imported where a tensor is looked at, so that a wrong word is told before that takes time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from cbs_core.contract.stored import Stored

if TYPE_CHECKING:
    from torch import Tensor

    from cbs_core.contract.live import Sound


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{tuple(tensor.shape)}@{tensor.device}"


@dataclass(frozen=True, slots=True)
class Still:
    """What a source's file holds beside pixels and alpha; carried to the sink untouched."""

    exif: bytes = b""
    """As the file holds it, without an orientation: the picture is upright. Empty for none."""

    density: tuple[float, float] | None = None
    """Pixels an inch, across and down."""

    profile: bytes = b""
    """ICC profile of ``own``; empty where the pixels are sRGB."""

    own: Tensor | None = None
    """``(H, W, 3)``, the file's pixels, where those that the source gave are made of them: uint8 in
    the colours of ``profile``; or, of more than 8 bits a channel, uint16 from 0 to 65535."""

    shown: Tensor | None = None
    """uint8 ``(H, W, 3)``, the same as the source gave them."""

    xmp: bytes = b""
    """As the file holds it, of the picture upright. Empty for none."""

    texts: tuple[tuple[str, str], ...] = ()
    """Comments, each with its name."""

    @property
    def deep(self) -> bool:
        """Whether the file has more than 8 bits a channel."""
        return self.own is not None and self.own.element_size() > 1

    def __repr__(self) -> str:
        return f"Still(exif={len(self.exif)} bytes, profile={len(self.profile)} bytes)"


@dataclass(frozen=True, slots=True)
class RawFrame:
    """One picture as a source gives it and a sink takes it.

    Raises:
        ValueError: where a tensor has another dtype or shape than stated.
    """

    pixels: Tensor
    """uint8 ``(H, W, 3)``, RGB, on the host or a device."""

    index: int
    """Number from the source, gap-free there; a dropped frame shows as a gap."""

    pts: Fraction = Fraction(0)
    """Presentation time in seconds."""

    alpha: Tensor | None = None
    """uint8 ``(H, W)``, the picture's own transparency, carried to the sink untouched."""

    name: str = ""
    """File stem of a picture from a folder; empty in a video."""

    captured: float | None = None
    """When the camera gave it, in seconds of `time.monotonic`; None where nobody knows. A run sets
    it for a live source that does not."""

    duration: Fraction | None = None
    """Seconds that it is shown, where the source states it; of a file's last frame it is exact."""

    still: Still | None = None
    """What a picture's file holds beside its pixels."""

    mattes: tuple[Tensor, ...] = ()
    """uint8 ``(H, W)`` each, a route's matte as it was blended, in the order of the routes; empty
    but where they are written too."""

    ahead: tuple[RawFrame, ...] = ()
    """The next frames, as many as are looked at before this one is done; empty in most runs."""

    def __post_init__(self) -> None:
        import torch

        if (
            self.pixels.dtype != torch.uint8
            or self.pixels.ndim != 3
            or self.pixels.shape[2] != 3
            or 0 in self.pixels.shape
        ):
            raise ValueError(f"pixels must be uint8 (H, W, 3), not {_shape(self.pixels)}")
        if self.alpha is not None and (
            self.alpha.dtype != torch.uint8 or self.alpha.shape != self.pixels.shape[:2]
        ):
            raise ValueError(
                f"alpha must be uint8 {tuple(self.pixels.shape[:2])}, not {_shape(self.alpha)}"
            )

    def __repr__(self) -> str:
        alpha = "" if self.alpha is None else ", alpha"
        return f"RawFrame({_shape(self.pixels)}{alpha}, index={self.index}, pts={self.pts})"


@dataclass(frozen=True, slots=True)
class Instances:
    """The objects that an `InstanceSegmenter` found in one frame, all on one device.

    Raises:
        ValueError: where a tensor has another dtype or shape than stated.
    """

    masks: Tensor
    """``(N, H, W)`` at the frame's size, float in [0, 1]; they may overlap."""

    classes: Tensor
    """``(N,)`` int64, indices into the segmenter's ``classes``, from 1: 0 is the background."""

    scores: Tensor
    """``(N,)`` float in [0, 1], the confidence in each."""

    def __post_init__(self) -> None:
        import torch

        if not self.masks.is_floating_point() or self.masks.ndim != 3:
            raise ValueError(f"masks must be float (N, H, W), not {_shape(self.masks)}")
        count = self.masks.shape[:1]
        if self.classes.dtype != torch.int64 or self.classes.shape != count:
            raise ValueError(f"classes must be int64 {tuple(count)}, not {_shape(self.classes)}")
        if not self.scores.is_floating_point() or self.scores.shape != count:
            raise ValueError(f"scores must be float {tuple(count)}, not {_shape(self.scores)}")

    def __repr__(self) -> str:
        return f"Instances({_shape(self.masks)})"


@dataclass(frozen=True, slots=True)
class Scores:
    """What the segmenter made of a frame.

    Raises:
        ValueError: where the logits have another dtype or shape than stated.
    """

    logits: Tensor
    """``(B, K, h, w)``, float."""

    instances: Sequence[Instances] | None
    """The objects that they come from, of each of the B pictures, where a detector was run."""

    scene: int | None = None
    """Number of the scene, where it had to be known to make them."""

    motion: Tensor | None = None
    """``(B, 2, h, w)``, where each pixel of a grid was in the last frame, in pixels of the grid;
    where something after the segmentation goes along with it."""

    trust: Tensor | None = None
    """``(B, 1, h, w)`` in [0, 1], how far that can be relied on."""

    def __post_init__(self) -> None:
        if not self.logits.is_floating_point() or self.logits.ndim != 4:
            raise ValueError(f"logits must be float (B, K, h, w), not {_shape(self.logits)}")

    def __repr__(self) -> str:
        return f"Scores({_shape(self.logits)}, instances={self.instances})"


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source says of its frames before the first one.

    Raises:
        ValueError: where a size or a rate is not positive.
    """

    width: int
    """Pixels; of the first frame where sizes vary (a folder)."""

    height: int
    """Pixels, likewise."""

    rate: Fraction = Fraction(25)
    """Nominal frames a second; `RawFrame.pts` is the truth."""

    frames: int | None = None
    """How many frames will come, where that is known."""

    live: bool = False
    """Whether frames come at their own pace and must be dropped when late."""

    media: Path | Stored | None = None
    """File that a sink may copy sound, colour tags and metadata from."""

    name: str = "output"
    """Stem for a file named after this stream."""

    names: tuple[str, ...] = ()
    """Of the frames (`RawFrame.name`), where all are known."""

    moving: bool = True
    """Whether the frames follow each other in time; pictures of a folder do not."""

    notes: tuple[str, ...] = ()
    """What of the input is lost or left out, a line each, for the user."""

    largest: tuple[int, int, str] | None = None
    """Width, height and name of the largest frame, where sizes vary and that is known."""

    sizes: int = 1
    """How many sizes the frames have, where that is known."""

    start: Fraction = Fraction(0)
    """Time, in seconds on the clock of ``media``, at which this stream's 0 lies."""

    cut: bool = False
    """Whether the stream may end before ``media`` does; sound then ends with the last frame."""

    transparent: bool = False
    """Whether transparency is what the frames are for: a sink that cannot hold it refuses them."""

    matte: bool = False
    """Whether the frames are a matte, grey: of ``media`` only what tells of pictures is kept."""

    sound: Callable[[], Sound] | None = None
    """Of a live stream: what is heard beside its frames, for a sink that can hold it. Each calls
    for its own, before the first frame."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a stream of {self.width}x{self.height} pixels has no picture")
        if self.rate <= 0:
            raise ValueError(f"a rate of {self.rate} frames a second is not positive")


@dataclass(frozen=True, slots=True)
class Segment:
    """A file with the pictures of a window of a stream's frames, which begins with a key frame."""

    path: Path

    times: tuple[Fraction, ...]
    """`RawFrame.pts` of each frame, in order."""

    duration: Fraction | None = None
    """Of the last frame, where the source states it."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A weight file that was read, as the report names it."""

    path: Path
    sha256: str
    """Hexadecimal digest of the whole file."""

    licence: str = ""
    """As the file's header states it."""

    revision: str = ""
    """Commit of the repository it was downloaded from, where it was."""
