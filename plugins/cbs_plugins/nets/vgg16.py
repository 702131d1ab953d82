"""The features of torchvision's VGG-16, by which Johnson et al. 2016 (1603.08155) train.

Letters: ``B`` batch, ``H W`` the picture, ``C h w`` a layer.
"""

import sys
from collections.abc import Collection, Iterable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from cbs_core.choose.weights import load
from cbs_core.contract.errors import ConfigError, PluginLoadError, WeightsHashError, closest
from cbs_plugins.nets.vgg import features

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""RGB of [0,1], as torchvision trained it."""

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Convolutions and channels of each block; pooling halves the size between two blocks."""

RELUS = tuple(
    f"relu{block}_{index}"
    for block, (count, _) in enumerate(BLOCKS, 1)
    for index in range(1, count + 1)
)
"""The layers that can be asked for, shallow first."""

URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
"""Torchvision's; the name ends in the first digits of the file's SHA-256."""


DIGITS = "397923af"


class VGG16(nn.Module):
    """VGG-16's convolutions up to the deepest layer asked for, with fixed weights.

    Args:
        layers: of `RELUS`.
        weights: torchvision's state dict; None takes torch.hub's cache or the internet.

    Raises:
        ConfigError: an unknown layer.
        PluginLoadError: the weights are not there and cannot be fetched.
        WeightsError: the file is damaged, or that of the cache another one.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: Iterable[str], weights: Path | None = None) -> None:
        super().__init__()
        self.wanted = frozenset(layers)
        for name in self.wanted:
            if name not in RELUS:
                raise ConfigError(
                    f"VGG-16 has no '{name}'{closest(name, RELUS)} (there are: {', '.join(RELUS)})"
                )
        checkpoint = load(weights or weights_file())
        if weights is None and not checkpoint.file.sha256.startswith(DIGITS):
            raise WeightsHashError(
                f"'{checkpoint.file.path}' has SHA-256 {checkpoint.file.sha256}, which does not "
                f"begin with {DIGITS} as torchvision's does: remove it, and it is fetched again"
            )
        self.weights_files = (checkpoint.file,)
        depth = max(map(RELUS.index, self.wanted)) + 1
        channels = [3, *(width for count, width in BLOCKS for _ in range(count))]
        self.layers = nn.ModuleDict()
        # Torchvision numbers convolutions, ReLUs and poolings in one sequence.
        number = 0
        for relu, (channels_in, channels_out) in list(zip(RELUS, pairwise(channels), strict=True))[
            :depth
        ]:
            block, index = relu.removeprefix("relu").split("_")
            if block != "1" and index == "1":
                self.layers[f"pool{int(block) - 1}"] = nn.MaxPool2d(2)
                number += 1
            conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, device="meta")
            conv.weight = nn.Parameter(checkpoint.tensors[f"features.{number}.weight"])
            conv.bias = nn.Parameter(checkpoint.tensors[f"features.{number}.bias"])
            self.layers[f"conv{block}_{index}"] = conv
            self.layers[relu] = nn.ReLU(inplace=True)
            number += 2
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, 255 * torch.tensor(values).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, image: Tensor, only: Collection[str] | None = None) -> dict[str, Tensor]:
        """Returns the layers asked for, each ``(B,C,h,w)``, by name.

        Args:
            image: ``(B,3,H,W)`` RGB, 0..255; H and W at least 16.
            only: some of them; what is deeper is not computed.
        """
        x = (image - self.mean) / self.std
        return features(self.layers, x, self.wanted if only is None else only)


def weights_file() -> Path:
    """Returns torchvision's weight file, fetched into torch.hub's cache where it is not there.

    Raises:
        PluginLoadError: it cannot be fetched.
    """
    name = URL.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(path), DIGITS, sys.stderr.isatty())
        except (OSError, RuntimeError) as error:
            raise PluginLoadError(
                f"VGG-16's weights cannot be fetched from {URL} ({error}): put the file into "
                f"'{path.parent}', or say recipe.vgg=19"
            ) from error
    return path
