"""Pictures as browsers have them: JPEG and PNG, read with bounds, and the views of a frame."""

import io
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor

from cbs_core.contract.errors import ConfigError
from cbs_core.contract.tensors import to_pixels
from cbs_core.frame.pipeline import Result
from cbs_core.words.vocabularies import colours

FORMATS = ("JPEG", "PNG", "WEBP")
"""That are read."""

QUALITY = 85
"""Of the JPEG that is shown."""

VIEWS = ("restyled", "original", "classes", "matte")

SHARE = 0.002
"""Of the picture: a class that covers less is not in view."""

SIDE = 112
"""Pixels a side of a thumbnail."""


class TooLargeError(ConfigError):
    """A picture of more pixels than are taken."""


def decode(data: bytes, *, pixels: int) -> Tensor:
    """Returns a picture as uint8 ``(H,W,3)``; its size is looked at before it is decoded.

    Args:
        data: a file of one of `FORMATS`.
        pixels: how many it may have.

    Raises:
        TooLargeError: it has more.
        ConfigError: it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data), formats=FORMATS)
        if opened.width * opened.height > pixels:
            raise TooLargeError(
                f"a picture of {opened.width}x{opened.height} is too large: at most {pixels} "
                "pixels are taken"
            )
        array = np.array(ImageOps.exif_transpose(opened).convert("RGB"))
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"the picture is too large: at most {pixels} pixels are taken") from (
            error
        )
    except ConfigError:
        raise
    except UnidentifiedImageError as error:  # it names the object of ours that was read
        raise ConfigError(f"this is no picture that can be read ({', '.join(FORMATS)})") from error
    except Exception as error:  # Pillow's decoders raise anything on damaged files
        raise ConfigError(
            f"this is no picture that can be read ({', '.join(FORMATS)}): "
            f"{' '.join(str(error).split())[:100]}"
        ) from error
    return torch.from_numpy(array)


def encode(pixels: NDArray[np.uint8], kind: str = "JPEG", quality: int = QUALITY) -> bytes:
    """Returns uint8 ``(H,W,3)`` or ``(H,W)`` as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=quality)
    return file.getvalue()


def fitted(pixels: Tensor, longest: int) -> Tensor:
    """Returns uint8 ``(H,W,3)`` made smaller, so that its longest side is at most so long."""
    height, width = pixels.shape[:2]
    if max(height, width) <= longest:
        return pixels
    scale = longest / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    image = pixels.permute(2, 0, 1)[None]
    return F.interpolate(image, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)


@dataclass(eq=False)
class Shown:
    """A frame that is done, on the host. Letters: ``H W`` the picture, ``h w`` half of that."""

    index: int
    captured: float
    """By `time.monotonic`."""

    classes: tuple[str, ...]
    original: NDArray[np.uint8] = field(repr=False)
    """``(H,W,3)``."""

    restyled: NDArray[np.uint8] = field(repr=False)
    """``(H,W,3)``."""

    labels: NDArray[np.uint8] = field(repr=False)
    """``(h,w)``, indices into `classes`."""

    matte: NDArray[np.uint8] = field(repr=False)
    """``(h,w)``, how much of a style shows."""

    tag: int = 0
    """What a visitor's camera called the frame."""

    _files: dict[str, bytes] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(
        cls, pixels: Tensor, result: Result, *, index: int, captured: float, tag: int = 0
    ) -> "Shown":
        """Fetches what a frame came to; ``pixels`` is what it was, uint8 ``(H,W,3)``."""
        height, width = pixels.shape[:2]
        half = max(1, height // 2), max(1, width // 2)
        labels = result.plan.regions.labels(result.logits, half)[0].to(torch.uint8)
        mattes = result.mattes
        if mattes.shape[1]:
            strengths = mattes.new_tensor([route.strength for route in result.plan.routes])
            alpha = (mattes * strengths[None, :, None, None]).amax(1, keepdim=True)
            alpha = F.interpolate(alpha.float(), half, mode="area")[0, 0]
        else:
            alpha = torch.zeros(half)
        return cls(
            index=index,
            captured=captured,
            classes=result.plan.classes,
            original=pixels.cpu().numpy(),
            restyled=to_pixels(result.image).cpu().numpy(),
            labels=labels.cpu().numpy(),
            matte=alpha.mul(255).round_().to(torch.uint8).cpu().numpy(),
            tag=tag,
        )

    def jpeg(self, view: str) -> bytes:
        """Returns a view of `VIEWS` as JPEG, which is made once for all who look."""
        with self._lock:
            if view not in self._files:
                self._files[view] = encode(self.picture(view))
            return self._files[view]

    def picture(self, view: str) -> NDArray[np.uint8]:
        """Returns a view, ``(H,W,3)``; of the matte ``(H,W)``."""
        if view == "classes":
            return self._in_colour()
        if view == "matte":
            return self._whole(self.matte)
        return self.original if view == "original" else self.restyled

    def _in_colour(self) -> NDArray[np.uint8]:
        palette = np.array(colours(self.classes), np.uint8)
        grey = self.original.mean(2, keepdims=True)
        mixed = 0.35 * grey + 0.65 * palette[self._whole(self.labels)]
        found: NDArray[np.uint8] = mixed.astype(np.uint8)
        return found

    def _whole(self, half: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self.original.shape[:2]
        found: NDArray[np.uint8] = np.array(
            Image.fromarray(half).resize((width, height), Image.Resampling.NEAREST)
        )
        return found

    def at(self, x: float, y: float) -> int:
        """Returns the class at a place, an index; both in [0,1), from the top left."""
        height, width = self.labels.shape
        column, row = min(int(x * width), width - 1), min(int(y * height), height - 1)
        return int(self.labels[max(row, 0), max(column, 0)])

    def in_view(self) -> list[tuple[int, float]]:
        """Returns the classes in view with their shares of the picture, the largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes)) / self.labels.size
        found = [
            (index, round(float(share), 4)) for index, share in enumerate(counts) if share >= SHARE
        ]
        return sorted(found, key=lambda one: -one[1])

    def crop(self, index: int) -> NDArray[np.uint8] | None:
        """Returns a square where a class is largest, `SIDE` pixels a side; None: there is none."""
        parts, count = ndimage.label(self.labels == index)
        if not count:
            return None
        largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
        rows, columns = np.nonzero(parts == largest)
        middle = columns.min() + columns.max(), rows.min() + rows.max()
        reach = 1.2 * max(float(np.ptp(rows)), float(np.ptp(columns)))
        return self._square(middle, max(reach, 0.12 * min(self.original.shape[:2])))

    def _square(self, middle: Sequence[float], reach: float) -> NDArray[np.uint8]:
        height, width = self.original.shape[:2]
        reach = min(reach, width / 2, height / 2)
        left = min(max(middle[0] - reach, 0), width - 2 * reach)
        top = min(max(middle[1] - reach, 0), height - 2 * reach)
        box = (left, top, left + 2 * reach, top + 2 * reach)
        cut = Image.fromarray(self.original).resize((SIDE, SIDE), Image.Resampling.BOX, box)
        found: NDArray[np.uint8] = np.array(cut)
        return found
