"""Discs that cross photographs, segmented by a planted net that misses them and sees what is not.

In every third frame the net sees nothing of the disc, in others it sees patches at random places
too. So it is known to the pixel what a held matte should show.

    python -m benchmarks.discs
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from cbs_plugins.compositors.hard import HardCompositor
from cbs_plugins.sources.sample import sample_file
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from cbs_core.frame.mattes import Regions
from cbs_core.frame.plan import Plan
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.frame.styling import Whole
from cbs_core.run.stream import Stream

MISSED = 3
"""In every this many frames the net sees nothing of the disc."""

AFTER = 6
"""Frames after the disc has left."""

EDGE = 2
"""Pixels beyond the disc that a matte may reach."""

SEEN = 60
"""Pixels of a disc that counts as in the picture."""


@dataclass(frozen=True, slots=True)
class Disc:
    """What crosses which photograph, and how."""

    photograph: str = "cat"
    size: tuple[int, int] = (180, 320)
    """Height and width."""

    radius: int = 28
    speed: float = 24
    """Pixels a frame at first,"""

    faster: float = 0
    """and how many more in each frame."""

    paint: str = "striped"
    """``striped``, ``plain`` or ``mottled``."""

    enters: bool = False
    """Whether it comes in from beyond the border; else it begins in the picture."""

    share: int = 1
    """The net's logits are smaller by this."""

    chance: int = 0
    """Seed of the patches."""

    def frames(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields the picture ``(1,3,H,W)``, where the disc is and what the net sees, ``(H,W)``."""
        chance = torch.Generator().manual_seed(self.chance)
        height, width = self.size
        with Image.open(sample_file(self.photograph)) as photograph:
            small = photograph.convert("RGB").resize((width, height))
        still = torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255
        coarse = torch.rand(1, 3, height // 6, width // 6, generator=chance)
        mottled = F.interpolate(coarse, self.size, mode="bilinear")[0]
        x, speed, index, left = -self.radius + 6.0 if self.enters else 60.0, self.speed, 0, 0
        while left < AFTER:
            truth = self._round(round(x), height // 2, self.radius)
            seen = truth & torch.tensor(index % MISSED != MISSED - 1)
            if index % MISSED == 1 or index % 4 == 3:
                for _ in range(2):
                    high = torch.tensor([width, height, 22])
                    places = (torch.rand(3, generator=chance) * high).int().tolist()
                    seen = seen | self._round(places[0], places[1], max(6, places[2]))
            yield torch.where(truth, self._painted(round(x), mottled), still)[None], truth, seen
            x, speed, index, left = (
                x + speed,
                speed + self.faster,
                index + 1,
                left + (not truth.any()),
            )

    def _round(self, x: int, y: int, radius: int) -> Tensor:
        rows, columns = (torch.arange(side) for side in self.size)
        return (rows[:, None] - y) ** 2 + (columns - x) ** 2 <= radius**2

    def _painted(self, x: int, mottled: Tensor) -> Tensor:
        if self.paint == "mottled":
            return torch.roll(mottled, x, 2)
        stripes = (torch.arange(self.size[1]) - x) % 14 < 7
        striped = (stripes & torch.tensor(self.paint == "striped")).float()
        paint = torch.stack([0.1 + 0.1 * striped, 0.9 - 0.2 * striped, 0.1 + 0 * striped])
        return paint[:, None].expand(3, *self.size)


@dataclass(frozen=True, slots=True)
class Held:
    """How a disc was held, from the second frame on in which it is seen."""

    least: float
    """Recall of the worst frame,"""

    recall: float
    """and the mean."""

    beyond: int
    """Frames that show something more than `EDGE` pixels from the disc: a trail or a patch."""

    stays: int
    """Frames after the disc has left in which something shows."""


class Planted:
    """A net that sees what it is told."""

    def __init__(self, share: int) -> None:
        self.share = share
        self.seen = torch.empty(0)

    def __call__(self, image: Tensor) -> Tensor:
        """Returns logits ``(1,2,h,w)``."""
        size = [-(-side // self.share) for side in self.seen.shape]
        score = F.interpolate(self.seen.float()[None, None] * 12 - 6, size, mode="area")
        return torch.cat([-score / 2, score / 2], 1)


def held(disc: Disc, mode: str = "matte") -> Held:
    """Runs a disc."""
    net, route = Planted(disc.share), Route(("thing",), "same")
    plan = Plan(
        segmenter=Stage(net, "segmenter"),
        stylings={route.style: Whole(Stage(lambda image: image, "styler"))},
        compositor=Stage(HardCompositor(), "compositor"),
        regions=Regions(("ground", "thing"), [("thing",)]),
        routes=(route,),
        device=torch.device("cpu"),
        steady=mode,
    )
    stream, recalls, beyond, stays, gone = Stream(plan), [], 0, 0, 0
    for picture, truth, net.seen in disc.frames():
        matte = stream(picture).mattes[0, 0] > 0.5
        count, gone = int(truth.sum()), gone + (not truth.any())
        if count > SEEN:
            recalls.append(int((matte & truth).sum()) / count)
        if gone:
            stays = gone if matte.any() else stays
        elif matte.any():
            beyond += bool((distance_transform_edt(~truth.numpy())[matte.numpy()] > EDGE).any())
    return Held(min(recalls[1:]), float(np.mean(recalls[1:])), beyond, stays)


DISCS = {
    "28 px, 24 a frame, cat": Disc(),
    "plain": Disc(paint="plain", chance=1),
    "mottled, enters": Disc(paint="mottled", enters=True, chance=2),
    "logits an eighth": Disc(share=8, chance=3),
    "10 px, 16 a frame": Disc(radius=10, speed=16, paint="plain", chance=4),
    "40 px, 32 a frame, coffee": Disc("coffee", (360, 640), 40, 32, paint="plain", chance=5),
    "16 px, 8 a frame, astronaut": Disc("astronaut", (270, 480), 16, 8, enters=True, chance=6),
    "24 px, faster and faster, rocket": Disc("rocket", (270, 480), 24, 8, 2, "plain", chance=7),
    "20 px, 24 a frame, motorcycle": Disc("motorcycle", (480, 640), 20, paint="mottled", chance=8),
}
"""What `measured` measures."""


def measured() -> dict[str, dict[str, Held]]:
    """Returns how each disc is held, by ``steady``."""
    return {
        name: {mode: held(disc, mode) for mode in ("off", "matte")} for name, disc in DISCS.items()
    }


def main() -> int:
    """Measures and prints."""
    for name, ways in measured().items():
        print(f"{name}: {ways['matte']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
