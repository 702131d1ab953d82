"""What a style net's picture is judged by: the features of VGG, or another net's picture.

Source: Johnson et al. 2016 (1603.08155, sections 3.2 and 4.1); the recipe of
github.com/pytorch/examples (``fast_neural_style``) with VGG-16, and with VGG-19 the losses that
Gatys et al. 2015 (1508.06576) optimise.

Letters: ``B`` batch, ``H W`` a picture, ``C h w`` a layer. Pictures are RGB, 0..255.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.choose.weights import find
from cbs_plugins.nets.johnson import read_net
from cbs_plugins.nets.lattice import WithoutGrid
from cbs_plugins.nets.losses import content_loss, gram, style_loss, total_variation
from cbs_plugins.nets.vgg import VGG19
from cbs_plugins.nets.vgg16 import VGG16
from cbs_plugins.training.style_recipe import Losses


class Judge(nn.Module):
    """Compares a picture that a net made with what it should be."""

    name: str
    """For the header of a weight file."""

    def prepare(self, device: torch.device) -> None:
        """Moves to a device."""
        self.to(device)

    def forward(self, content: Tensor, styled: Tensor) -> dict[str, Tensor]:
        """Returns ``loss``, and its terms before they are weighted.

        Args:
            content: ``(B,3,H,W)``, a photograph.
            styled: what the net made of it.
        """
        raise NotImplementedError


CELL = 16
"""Pixels a side over which light and dark are compared: strokes are finer."""

FAINT = 16.0
"""Levels of deviation below which a photograph's light and dark are not stretched to the
painting's: else a plain wall would turn into one."""

LUMINANCE = (0.299, 0.587, 0.114)


class Tone(nn.Module):
    """Compares light and dark with a photograph's, in the painting's range.

    The features of VGG tell edges; a net that is trained by them alone may paint a white house and
    the dark behind it alike. What is wanted of each cell is the photograph's luminance with the
    painting's mean and deviation.

    Args:
        painting: ``(1,3,H,W)``.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, painting: Tensor) -> None:
        super().__init__()
        cells = light(painting)
        self.register_buffer("mean", cells.mean())
        self.register_buffer("deviation", cells.std())

    def forward(self, content: Tensor, styled: Tensor) -> Tensor:
        """Returns the mean square difference of the cells, levels squared."""
        cells = light(content)
        deviation, mean = torch.std_mean(cells, (1, 2, 3), keepdim=True)
        wanted = self.mean + self.deviation * (cells - mean) / deviation.clamp(min=FAINT)
        return F.mse_loss(light(styled), wanted)


def light(image: Tensor) -> Tensor:
    """Returns the mean luminance of cells of `CELL` pixels, ``(B,1,h,w)``; a rest is left out."""
    luminance = (image * image.new_tensor(LUMINANCE).view(3, 1, 1)).sum(1, keepdim=True)
    return F.avg_pool2d(luminance, CELL)


class Perceptual(Judge):
    """``content``, ``style``, ``variation`` and, where it has a weight, ``tone``.

    Args:
        losses: the layers and weights.
        painting: ``(1,3,H,W)``.

    Raises:
        PluginLoadError: the loss net's weights are not installed.
    """

    def __init__(self, losses: Losses, painting: Tensor) -> None:
        super().__init__()
        self.name = f"VGG-{losses.vgg}"
        self.layers, self.weights = losses.layers, losses.weights
        net = {16: VGG16, 19: VGG19}[losses.vgg]
        self.vgg = net((self.layers.content, *self.layers.style))
        self.painting = painting
        self.toned, self.tone = losses.tone, Tone(painting)

    def prepare(self, device: torch.device) -> None:
        """Moves to a device, and computes the painting's Gram matrices."""
        super().prepare(device)
        self.device = device
        with torch.no_grad():
            features = self.vgg(self.painting.to(device))
        self.grams = {name: gram(features[name]) for name in self.layers.style}

    def forward(self, content: Tensor, styled: Tensor) -> dict[str, Tensor]:
        """Returns the weighted sum, and its terms."""
        layer = self.layers.content
        with torch.no_grad():
            target = self.vgg(content, (layer,))[layer]
        features = self.vgg(styled)
        # Sums over a layer overflow float16, and bfloat16 holds three digits of them.
        with torch.autocast(self.device.type, enabled=False):
            of_content = content_loss(features[layer].float(), target.float())
            of_style = torch.stack(
                [style_loss(features[n], self.grams[n]) for n in self.layers.style]
            ).sum()
            variation = total_variation(styled)
            weighted = zip(self.weights, (of_content, of_style, variation), strict=True)
            loss = torch.stack([weight * term for weight, term in weighted]).sum()
        found = {"loss": loss, "content": of_content, "style": of_style, "variation": variation}
        if self.toned:
            found["tone"] = self.tone(content, styled.float())
            found["loss"] = loss + self.toned * found["tone"]
        return found


class Taught(Judge):
    """``teacher``, the mean square to the picture of another net, which is learnt by heart.

    Without VGG a step is several times as fast (Hinton et al. 2015, 1503.02531). It is smooth where
    the teacher cannot be followed: steps by `Perceptual` afterwards make it crisp.

    Args:
        teacher: a weight file of `TransformerNet`, or the name of a style.

    Raises:
        WeightsMissingError: no such style or file.
        WeightsKeysError: the weights of another net.
    """

    def __init__(self, teacher: str) -> None:
        super().__init__()
        file = Path(teacher).expanduser()
        named = file if file.is_file() else find("johnson", teacher, flag="recipe.teacher")
        net, checkpoint = read_net(named)
        self.name = f"none: taught by {checkpoint.file.path.name}"
        self.teacher = nn.Sequential(net, WithoutGrid(net.stride)).eval().requires_grad_(False)

    def forward(self, content: Tensor, styled: Tensor) -> dict[str, Tensor]:
        """Returns the mean square, levels squared."""
        with torch.no_grad():
            wanted = self.teacher(content).float().clamp(0, 255)
        loss = (styled - wanted).square().mean()
        return {"loss": loss, "teacher": loss.detach()}


def judge(losses: Losses, painting: Tensor) -> Judge:
    """Returns what a recipe judges by."""
    return Perceptual(losses, painting) if losses.teacher is None else Taught(losses.teacher)
