"""A small built pipeline, and sheets drawn from it, for the tests of sheet and report."""

import torch

from cbs_core.contract.types import StreamInfo
from cbs_core.frame.mattes import Regions
from cbs_core.frame.plan import Facts
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.run.sheet import Sheet
from cbs_core.run.stream import Stream
from cbs_core.testing import raw_frame
from cbs_core.words import vocabularies
from tests.streams import plan_of

CLASSES = tuple(vocabularies.get("cityscapes"))
ROUTES = (
    Route(("car", "person"), "johnson", {"style": "a starry night over the river Rhone"}),
    Route(("sky",), "johnson", {"style": "wave"}, strength=0.6),
    Route(("train",), "johnson", {"weights": "nets/udnie.pth"}),
)


def quarters(image, classes=CLASSES):
    """Logits: car, person, sky and road, each in a quarter of the picture; no train."""
    height, width = image.shape[2:]
    logits = torch.zeros(1, len(classes), height, width)
    rows, columns = (height + 1) // 2, (width + 1) // 2
    for name, y, x in [("car", 0, 0), ("person", 0, 1), ("sky", 1, 0), ("road", 1, 1)]:
        part = logits[:, classes.index(name)]
        part[:, y * rows : (y + 1) * rows, x * columns : (x + 1) * columns] = 9
    return logits


def build(routes=ROUTES, weights=()):
    return plan_of(
        segmenter=Stage(quarters, "segmenter"),
        stylers={route.style: Stage(lambda image: 1 - image, "styler") for route in routes},
        compositor=Stage(torch.lerp, "compositor"),
        regions=Regions(CLASSES, [route.classes for route in routes]),
        routes=routes,
        classes=CLASSES,
        facts=Facts(weights, {"styler/johnson": "x 1.0"}),
    )


def show(observe, raw):
    """Gives a frame and what the pipeline makes of it to a sheet or a watch."""
    stream = Stream(build())
    see = observe.add if isinstance(observe, Sheet) else observe
    see(raw, stream(stream.upload(raw)))


def sheet(*sizes, rows=3, frames=None, routes=ROUTES):
    """A sheet that was shown a frame of each size ``(height, width)``."""
    height, width = sizes[0]
    drawn = Sheet(build(routes), StreamInfo(width, height, frames=frames or len(sizes)), rows=rows)
    for index, size in enumerate(sizes):
        show(drawn, raw_frame(*size, index))
    return drawn
