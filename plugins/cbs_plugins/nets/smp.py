"""What this project changes in the nets of segmentation-models-pytorch."""

from typing import TYPE_CHECKING, Any

from torch import nn

from cbs_core.contract.errors import (
    ConfigError,
)

if TYPE_CHECKING:
    pass


def trim(net: Any) -> None:
    """Takes the last stage out of the encoder of smp's ``fpn``; it keeps the stride.

    Of EfficientNet-Lite0 that is a fifth of its weights, which served ImageNet's 1000 classes.

    Raises:
        ConfigError: another architecture, or an encoder that is not made of timm's blocks.
    """
    blocks = getattr(getattr(net.encoder, "model", None), "blocks", None)
    lateral = getattr(net.decoder, "p5", None)
    if not isinstance(blocks, nn.Sequential) or not isinstance(lateral, nn.Conv2d):
        raise ConfigError("only arch=fpn on an EfficientNet or MobileNet of timm can be trimmed")
    blocks[-1] = nn.Identity()
    norms = [m for m in blocks.modules() if isinstance(m, nn.BatchNorm2d)]
    net.decoder.p5 = nn.Conv2d(norms[-1].num_features, lateral.out_channels, 1)
