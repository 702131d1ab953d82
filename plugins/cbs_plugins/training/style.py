"""Training of feed-forward style nets (`cbs_plugins.nets.feed_forward`) by perceptual losses.

Letters: ``B`` batch, ``S`` the crop's side. Pictures are RGB, 0..255.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cbs_core.choose.weights import Checkpoint
from cbs_core.contract.errors import ConfigError
from cbs_core.datasets.photos import find_photos, has_split
from cbs_core.datasets.samples import Samples, Shuffled, generator
from cbs_plugins.formats.pictures import read_picture
from cbs_plugins.nets.lattice import WithoutGrid
from cbs_plugins.nets.scale import resize_to_area
from cbs_plugins.nets.style_net import Measured, Normalise, StyleNet, by_given, by_own
from cbs_plugins.training.style_losses import judge
from cbs_plugins.training.style_recipe import Optimisation, Photographs, Recipe

SHOWN = 4
"""Photographs on a preview sheet."""

SMALLEST_PART = 0.5
"""Least share of a photograph's shorter side that a crop covers, where that is ``crop`` pixels."""

APART = 28
"""Pixels, at most, between two views of a crop."""

BORDER = 16
"""Pixels at the border of either view that are not compared: there the net cannot see all that
strokes depend on."""

FLOOR = 0.01
"""Of the learning rate, at the end of the cosine."""

GREY = 127.5

CONTRAST = 100.0
"""By what the last layer's first weights are multiplied: its output then spans 0..255."""


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of net that learns paintings (`cbs_plugins.nets.feed_forward.StyleNet`)."""

    header: Mapping[str, str]
    """What a weight file says of the net."""

    make: Callable[[int], StyleNet]
    """Makes one of a width."""

    width: int
    """Where neither the recipe nor a file says another."""

    read: Callable[[str], tuple[StyleNet, Checkpoint]]
    """Reads a weight file."""


class StyleTask:
    """Learns one painting (`cbs_core.contract.task.Task`).

    Args:
        recipe: which, and how.
        form: of the net.

    Raises:
        ConfigError: ``init`` is of another width, the crop no multiple of the net's stride, or no
            photographs.
        SourceError: the painting is no picture.
        WeightsError: ``init`` is of another net.
        PluginLoadError: the loss net's weights are not installed.
    """

    criterion = "total"
    greater_is_better = False

    def __init__(self, recipe: Recipe, form: Form) -> None:
        painting, photographs, how = recipe.painting, recipe.photographs, recipe.optimisation
        self.equivariance, self.noise = recipe.losses.equivariance, recipe.losses.noise
        self.crop = photographs.crop
        self.size = photographs.batch
        pixels = read_picture(painting.path)[0].permute(2, 0, 1)[None]
        self.judge = judge(recipe.losses, resize_to_area(pixels, painting.style_size**2))
        self.name = Path(painting.path).expanduser().stem
        photos, held = _divided(photographs)
        self.photos = Samples(photos, read_picture_chw, Shuffled(len(photos), how.seed))
        self.held = _held_out(held, self.crop)
        self.module = net = _net(form, how)
        self.stride = net.stride
        if self.crop % self.stride:
            raise ConfigError(f"recipe.crop={self.crop} must be a multiple of {self.stride}")
        # What is learnt is what is shown: else the net would count on its grid for fine texture.
        self.finish = WithoutGrid(self.stride)
        self.optimizer = torch.optim.Adam(self.module.parameters(), how.learning_rate)
        falls = how.schedule == "cosine"
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: decay(step / how.steps) if falls else 1.0
        )
        self.header = {
            **form.header,
            "width": str(net.width),
            "style": Path(painting.path).name,
            "style_source": painting.style_source or "not stated",
            "style_licence": painting.style_licence or "not stated",
            "loss_net": self.judge.name,
            "photographs": str(len(photos)),
        }

    def prepare(self, device: torch.device) -> None:
        """Moves what is not the net's own."""
        self.judge.prepare(device)
        self.finish.to(device)
        self.held = self.held.to(device)

    def batch(self, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns random crops ``(B,3,S,S)``, uint8; with `equivariance`, two views of each.

        Then there are the second views too, of the same shape, noisy and cut a little further on,
        and by how many pixels down and right: ``(2,)``, never both multiples of the net's stride.
        """
        first = step * self.size
        photos = [self.photos(number) for number in range(first, first + self.size)]
        if not self.equivariance:
            return (torch.stack([random_crop(photo, self.crop, generator) for photo in photos]),)
        side = self.crop + APART
        crops = torch.stack([random_crop(photo, side, generator) for photo in photos])
        here, there = _two_places(self.stride, generator)
        second = noisy(cut(crops, there, self.crop), self.noise, generator)
        return cut(crops, here, self.crop), second, there - here

    def step(
        self, image: Tensor, second: Tensor | None = None, shift: Tensor | None = None
    ) -> Mapping[str, Tensor]:
        """Returns ``loss``, and its terms before they are weighted.

        They are those of `cbs_plugins.training.style_losses` and, of two views, ``equivariance``.

        Args:
            image: ``(B,3,S,S)``, uint8.
            second: the same, cut elsewhere.
            shift: ``(2,)``, by how many pixels down and right.
        """
        content, measured = _as_input(image), Measured()
        styled = self._styled(content, measured)
        found: dict[str, Tensor] = self.judge(content, styled)
        if second is None or shift is None:
            return found
        # By the first view's statistics, as a video's frames are: by its own, the net would learn
        # to make nothing of them, and with them goes what is light and dark in the photograph.
        moved = self._styled(_as_input(second), by_given(measured.kept))
        found["equivariance"] = left_behind(styled, moved, shift)
        found["loss"] = found["loss"] + self.equivariance * found["equivariance"]
        return found

    def validate(self) -> Mapping[str, float]:
        """Returns the means over the held-out photographs; ``total`` is the weighted sum."""
        found = [self.step(photo[None]) for photo in self.held]
        mean = {name: float(torch.stack([f[name] for f in found]).mean()) for name in found[0]}
        return {"total": mean.pop("loss"), **mean}

    def preview(self) -> Tensor:
        """Returns held-out photographs above what the net makes of them."""
        photos = self.held[:SHOWN]
        styled = torch.cat([self._styled(photo[None].float()) for photo in photos])
        rows = torch.stack([photos, styled.round().clamp(0, 255).byte()])
        return rows.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)

    def export(self) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
        """Returns the net's tensors, named as in pytorch/examples, and their header."""
        return self.module.state_dict(), self.header

    def _styled(self, content: Tensor, normalise: Normalise = by_own) -> Tensor:
        styled: Tensor = self.finish(self.module(content, normalise).float())
        return styled


def left_behind(styled: Tensor, moved: Tensor, shift: Tensor) -> Tensor:
    """Returns the mean square of what differs where two stylings show the same, levels squared.

    Within `BORDER` of either's border nothing is compared (less where they share little).

    Args:
        styled: ``(B,3,S,S)``, of a picture.
        moved: of the same, cut elsewhere.
        shift: ``(2,)``, by how many pixels down and right.
    """
    for dim, by in zip((2, 3), shift.tolist(), strict=True):
        length = styled.shape[dim] - abs(by)
        border = min(BORDER, length // 4)
        inside = length - 2 * border
        styled = styled.narrow(dim, max(0, by) + border, inside)
        moved = moved.narrow(dim, max(0, -by) + border, inside)
    return (styled - moved).square().mean()


def noisy(image: Tensor, levels: float, generator: torch.Generator) -> Tensor:
    """Returns uint8 pictures as a sensor might give them, with noise of up to so many levels."""
    if not levels:
        return image
    deviation = levels * torch.rand((), generator=generator)
    noise = deviation * torch.randn(image.shape, generator=generator)
    return (image + noise).round().clamp(0, 255).byte()


def cut(crops: Tensor, place: Tensor, side: int) -> Tensor:
    """Returns the squares ``(B,3,S,S)`` that begin at a row and a column."""
    row, column = place.tolist()
    return crops[..., row : row + side, column : column + side].contiguous()


def _two_places(stride: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    while True:
        here, there = torch.randint(APART + 1, (2, 2), generator=generator)
        if ((there - here) % stride).any():
            return here, there


def _as_input(image: Tensor) -> Tensor:
    return image.float().contiguous(memory_format=torch.channels_last)


def decay(part: float) -> float:
    """Returns the cosine's factor of the learning rate after a part, 0 to 1, of the steps."""
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, part)))


def read_picture_chw(path: Path) -> Tensor:
    """Returns a picture as uint8 ``(3,H,W)``; raises `SourceError` where it is broken."""
    return read_picture(path)[0].permute(2, 0, 1)


def random_crop(photo: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Returns a random square of a photograph, resized and perhaps mirrored: ``(3,S,S)`` uint8.

    The square covers at least `SMALLEST_PART` of the shorter side, and is never enlarged unless
    the whole photograph is smaller than it.

    Args:
        photo: ``(3,H,W)`` uint8.
        side: S.
        generator: decides size, place and mirroring.
    """
    height, width = photo.shape[1:]
    shorter = min(height, width)
    least = min(shorter, max(side, round(SMALLEST_PART * shorter)))
    draw = torch.rand(4, generator=generator).tolist()
    square = least + int(draw[0] * (shorter - least + 1))
    top, left = (int(d * (n - square + 1)) for d, n in zip(draw[1:3], (height, width), strict=True))
    part = photo[:, top : top + square, left : left + square]
    return resized(part.flip(2) if draw[3] < 0.5 else part, side)


def centre_crop(photo: Tensor, side: int) -> Tensor:
    """Returns the largest square in the middle, resized: ``(3,H,W)`` -> ``(3,S,S)``, uint8."""
    height, width = photo.shape[1:]
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    return resized(photo[:, top : top + square, left : left + square], side)


def resized(photo: Tensor, side: int) -> Tensor:
    """Returns ``(3,n,n)`` uint8 as ``(3,S,S)``."""
    if photo.shape[1] == side:
        return photo
    resized = F.interpolate(photo[None].float(), (side, side), mode="bilinear", antialias=True)
    return resized[0].round().clamp(0, 255).byte()


def _divided(told: Photographs) -> tuple[list[Path], list[Path]]:
    """Returns the photographs to train on, and those to validate on."""
    data, split, held_out = told.data, told.split, told.held_out
    if has_split(data, "val"):
        photos, held = find_photos(data, split=split), find_photos(data, split="val")
        order = torch.randperm(len(held), generator=generator(0, 0)).tolist()
        return photos, [held[index] for index in order[:held_out]]
    found = find_photos(data)
    if len(found) == 1:
        return found, found
    # Not by the seed, so that runs with several seeds can be compared.
    order = torch.randperm(len(found), generator=generator(0, 0)).tolist()
    count = min(held_out, max(1, len(found) // 5))
    return [found[i] for i in sorted(order[count:])], [found[i] for i in order[:count]]


def _held_out(paths: list[Path], side: int) -> Tensor:
    samples = Samples(paths, read_picture_chw, lambda number: number)
    whole = [centre_crop(samples(number), side) for number in range(len(paths))]
    return torch.stack(whole)


def _net(form: Form, how: Optimisation) -> StyleNet:
    if how.init is not None:
        net, checkpoint = form.read(how.init)
        if how.width not in (None, net.width):
            raise ConfigError(
                f"'{checkpoint.file.path}' is of width {net.width}, not {how.width}: leave "
                "recipe.width out"
            )
        return net
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)
        net = form.make(how.width or form.width)
    # Else the first hundreds of steps do nothing but lift a nearly black picture.
    last = net.last
    assert last.bias is not None
    with torch.no_grad():
        last.weight.mul_(CONTRAST)
        last.bias.fill_(GREY)
    return net
