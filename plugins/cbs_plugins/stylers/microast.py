"""MicroAST: any painting as the style, at once and without training (Wang et al. 2023, 2211.15313).

Two encoders of one design read the picture and the painting. The painting acts on the decoder in
two ways (dual modulation): its channel statistics replace the picture's, and a weight and a bias a
channel, which the modulator makes of it, change the decoder's filters. Submodule names are those of
the official checkpoints (github.com/EndyWon/MicroAST), which therefore load strictly.

All that is kept of a painting is its *code* of 512 numbers, ``(B,8,64)``: mean, standard deviation,
weight and bias of the shallow features, then of the deep ones. Blends and strengths are weighted
means of codes.

Letters: ``B`` batch, ``H W`` the frame, ``h w`` a quarter of it, rounded up.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.choose.weights import SUFFIXES, load, load_into, search_folders
from cbs_core.contract.errors import ConfigError, WeightsMissingError
from cbs_core.contract.tensors import to_image
from cbs_core.machine.memory import check_memory
from cbs_plugins.formats.pictures import read_picture

CHANNELS = 64
"""Of the features at a quarter of the size."""

MIN_SIDE = 8
"""Pixels: below this, the reflection padding at a quarter of the size finds nothing to reflect."""

EPSILON = 1e-5
"""Added to variances, as in training."""


class ConvLayer(nn.Module):
    """A convolution with reflection padding."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv_layer = nn.Conv2d(
            channels_in,
            channels_out,
            kernel,
            stride,
            kernel // 2,
            groups=groups,
            padding_mode="reflect",
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B,channels_in,h,w)`` -> ``(B,channels_out,ceil(h/stride),ceil(w/stride))``."""
        out: Tensor = self.conv_layer(x)
        return out


class ResidualLayer(nn.Module):
    """Two convolutions and the input, without an activation after the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvLayer(CHANNELS, CHANNELS, 3)
        self.conv2 = ConvLayer(CHANNELS, CHANNELS, 3)

    def forward(self, x: Tensor) -> Tensor:
        """``(B,64,h,w)`` -> the same shape."""
        out: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return out

    def modulated(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Runs with other filters: each ``k`` becomes ``weight * k + bias * identity``.

        Args:
            x: ``(B,64,h,w)``.
            weight: ``(B,64,1,1)``.
            bias: ``(B,64,1,1)``.
        """
        y = F.relu(weight * self.conv1(x) + bias * x)
        out: Tensor = x + weight * self.conv2(y) + bias * y
        return out


class Encoder(nn.Module):
    """The micro encoder: of pictures, and with other weights of paintings."""

    def __init__(self) -> None:
        super().__init__()
        self.enc1 = nn.Sequential(
            ConvLayer(3, 16, 9),
            nn.ReLU(),
            ConvLayer(16, 32, 3, stride=2, groups=16),
            nn.ReLU(),
            ConvLayer(32, 32, 1),
            nn.ReLU(),
            ConvLayer(32, CHANNELS, 3, stride=2, groups=32),
            nn.ReLU(),
            ConvLayer(CHANNELS, CHANNELS, 1),
            nn.ReLU(),
            ResidualLayer(),
        )
        self.enc2 = nn.Sequential(ResidualLayer())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``(B,3,H,W)`` RGB in [0,1] -> shallow and deep features, each ``(B,64,h,w)``."""
        shallow: Tensor = self.enc1(image)
        return shallow, self.enc2(shallow)


class Modulator(nn.Module):
    """Makes weights and biases for the decoder's filters from a painting's features."""

    def __init__(self) -> None:
        super().__init__()

        def pooled() -> nn.Module:
            layer = ConvLayer(CHANNELS, CHANNELS, 3, groups=CHANNELS)
            return nn.Sequential(layer, nn.AdaptiveAvgPool2d(1))

        self.weight1 = pooled()
        self.bias1 = pooled()
        self.weight2 = pooled()
        self.bias2 = pooled()

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        """Features ``(B,64,h,w)`` of the style encoder -> the code ``(B,8,64)``."""
        parts = [
            *mean_std(shallow),
            self.weight1(shallow),
            self.bias1(shallow),
            *mean_std(deep),
            self.weight2(deep),
            self.bias2(deep),
        ]
        return torch.stack([part.flatten(1) for part in parts], 1)


class Decoder(nn.Module):
    """The micro decoder: the deep code acts on its first block, the shallow one on its second."""

    def __init__(self) -> None:
        super().__init__()
        self.dec1 = ResidualLayer()
        self.dec2 = ResidualLayer()
        self.dec3 = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            ConvLayer(CHANNELS, 32, 3, groups=32),
            nn.ReLU(),
            ConvLayer(32, 32, 1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            ConvLayer(32, 16, 3, groups=16),
            nn.ReLU(),
            ConvLayer(16, 16, 1),
            nn.ReLU(),
            ConvLayer(16, 3, 9),
        )

    def forward(self, deep: Tensor, code: Tensor) -> Tensor:
        """Returns the picture, ``(B,3,4h,4w)`` RGB about [0,1], not clamped.

        Args:
            deep: ``(B,64,h,w)`` of the content encoder.
            code: ``(B,8,64)``, or ``(1,8,64)`` for all.
        """
        x = deep
        for block, part in ((self.dec1, code[:, 4:]), (self.dec2, code[:, :4])):
            mean, std, weight, bias = part[..., None, None].unbind(1)
            old_mean, old_std = mean_std(x)
            x = block.modulated((x - old_mean) * (std / old_std) + mean, weight, bias)
        out: Tensor = self.dec3(x)
        return out


def mean_std(x: Tensor) -> tuple[Tensor, Tensor]:
    """``(B,C,h,w)`` -> mean and standard deviation of each channel, both ``(B,C,1,1)``."""
    variance, mean = torch.var_mean(x, (2, 3), keepdim=True)
    return mean, (variance + EPSILON).sqrt()


class MicroASTStyler(nn.Module):
    """MicroAST with its paintings: ``(B,3,H,W)`` RGB in [0,1] -> the same size and range.

    Args:
        style: a picture file, or several, whose codes are blended.
        weights: the folder of the four weight files ``content_encoder*``, ``style_encoder*``,
            ``modulator*`` and ``decoder*``; None takes ``microast`` in the weight folders.
        blend: a weight for each style, at least 0, of any sum; None blends them equally.
        strength: 1 is the painting's code. 0 is the picture's own, from which the decoder
            reconstructs the picture; between them the two are mixed, for one more encoder pass a
            frame. (The authors' own ``alpha`` leaves the painting's filters in place and the
            features unscaled, for which the decoder was never trained: at 0 it gives a red haze.)
        style_size: pixels of the shorter side to which the paintings are resized.

    Raises:
        ConfigError: no style, or a blend, strength or size that is out of range.
        SourceError: a style that is no picture.
        WeightsMissingError: no such folder, or a part is not in it.
        WeightsKeysError: the weights of another net.
    """

    style_code: Tensor

    # Peak resident memory on the CPU: 345 to 432 measured, whatever the strength.
    bytes_per_pixel = 448

    def __init__(
        self,
        style: str | Sequence[str] | None = None,
        weights: str | None = None,
        blend: Sequence[float] | None = None,
        strength: float = 1.0,
        style_size: int = 512,
    ) -> None:
        super().__init__()
        paintings = [style] if isinstance(style, str) else list(style or ())
        if not paintings:
            raise ConfigError("no style is chosen: give styler.style=PICTURE")
        if not 0 <= strength <= 1:
            raise ConfigError(f"styler.strength={strength} is outside 0..1")
        if style_size < MIN_SIDE:
            raise ConfigError(f"styler.style_size={style_size} is below {MIN_SIDE} pixels")
        shares = _shares(blend, len(paintings))
        self.strength = float(strength)

        self.content_encoder = Encoder()
        self.style_encoder = Encoder()
        self.modulator = Modulator()
        self.decoder = Decoder()
        files = []
        for part, path in _weight_files(weights).items():
            checkpoint = load(path)
            load_into(self.get_submodule(part), checkpoint, net=f"MicroAST's {part}")
            files.append(checkpoint.file)
        self.weights_files = tuple(files)

        with torch.no_grad():
            codes = [self.encode_style(read_style(path, style_size)) for path in paintings]
            code = torch.einsum("s,sbij->bij", shares, torch.stack(codes))
        self.register_buffer("style_code", code, persistent=False)

    def encode_style(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1], sides at least `MIN_SIDE` -> the code ``(B,8,64)``."""
        code: Tensor = self.modulator(*self.style_encoder(image))
        return code

    def forward(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> the same size and range."""
        height, width = image.shape[-2:]
        missing = (0, max(0, MIN_SIDE - width), 0, max(0, MIN_SIDE - height))
        if any(missing):
            image = F.pad(image, missing, mode="replicate")
        code = self.style_code
        if self.strength < 1:
            code = torch.lerp(self.encode_style(image), code, self.strength)
        styled: Tensor = self.decoder(self.content_encoder(image)[1], code)
        return styled[..., :height, :width].clamp(0, 1)


def read_style(path: str | Path, size: int) -> Tensor:
    """Returns a painting ``(1,3,h,w)``, RGB in [0,1], its shorter side resized to ``size`` pixels.

    Raises:
        SourceError: where it is no picture.
    """
    pixels = to_image(read_picture(path)[0])
    height, width = pixels.shape[-2:]
    scale = size / min(height, width)
    new = (max(size, round(height * scale)), max(size, round(width * scale)))
    what = f"styler.style_size={size}, a painting"
    check_memory(*new, MicroASTStyler.bytes_per_pixel, pixels.device, what=what)
    return F.interpolate(pixels, new, mode="bilinear", antialias=True)


def _shares(blend: Sequence[float] | None, count: int) -> Tensor:
    shares = torch.tensor([1.0] * count if blend is None else list(blend), dtype=torch.float32)
    if len(shares) != count:
        raise ConfigError(
            f"styler.blend has {len(shares)} weights for {count} styles: give one for each"
        )
    if not (shares.isfinite().all() and shares.min() >= 0 and shares.sum() > 0):
        raise ConfigError(
            f"styler.blend={list(blend or ())}: give weights of at least 0, not all of them 0"
        )
    return shares / shares.sum()


def _weight_files(weights: str | None) -> dict[str, Path]:
    """Returns the file of each part, by the name of its submodule."""
    found = [folder / "microast" for folder in search_folders() if (folder / "microast").is_dir()]
    if weights is not None:
        folder = Path(weights).expanduser()
    elif found:
        folder = found[0]
    else:
        raise WeightsMissingError(
            "no microast weights were found: give their folder with styler.weights=FOLDER, or put "
            f"it as microast/ into one of: {', '.join(map(str, search_folders()))} ($CBS_WEIGHTS "
            "adds a folder)"
        )
    if not folder.is_dir():
        raise WeightsMissingError(
            f"no folder '{folder}': styler.weights=FOLDER names that of MicroAST's weight files"
        )
    files = {}
    for part in ("content_encoder", "style_encoder", "modulator", "decoder"):
        own = [path for path in sorted(folder.glob(f"{part}*")) if path.suffix in SUFFIXES]
        if not own:
            raise WeightsMissingError(
                f"'{folder}' has no weight file {part}*: MicroAST's are content_encoder*, "
                "style_encoder*, modulator* and decoder*"
            )
        files[part] = own[-1]
    return files
