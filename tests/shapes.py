"""Drawn shapes, and a Mask R-CNN small enough to learn them in a test's set-up."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAMES = ("background", "disc", "square")

COLOURS = {1: torch.tensor([0.8, 0.4, 0.2]), 2: torch.tensor([0.2, 0.4, 0.8])}
"""Discs are warm and squares are cold, within 0.2."""

Shape = tuple[int, int, int, int]
"""Label, then x and y of the centre and the radius in pixels."""


def texture(height: int, width: int, *, seed: int) -> Tensor:
    """A smooth grey background with noise, float32 ``(3,H,W)``."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 0.3 + 0.2 * torch.rand(1, 3, 6, 6, generator=generator)
    image = F.interpolate(coarse, (height, width), mode="bicubic")[0]
    return (image + 0.03 * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def draw(image: Tensor, shapes: Sequence[Shape], *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Paints shapes over a picture; also returns their masks, bool ``(N,H,W)``."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in image.shape[1:]), indexing="ij")
    masks = []
    for label, x, y, radius in shapes:
        dx, dy = (columns - x).abs(), (rows - y).abs()
        mask = dx**2 + dy**2 <= radius**2 if label == 1 else torch.maximum(dx, dy) <= radius
        colour = COLOURS[label].view(3, 1, 1) + 0.2 * torch.rand(3, 1, 1, generator=generator)
        image = torch.where(mask, colour, image)
        masks.append(mask)
    return image, torch.stack(masks)


def scene(seed: int, size: int = 96) -> tuple[Tensor, dict[str, Tensor]]:
    """A picture with one or two shapes that do not touch, and its training target."""
    generator = torch.Generator().manual_seed(seed)
    shapes = []
    for half in range(2 if seed % 3 else 1):
        radius = int(torch.randint(9, 17, (), generator=generator))
        left, right = half * size // 2 + radius, (half + 1) * size // 2 - radius
        x = int(torch.randint(left, right + 1, (), generator=generator))
        y = int(torch.randint(radius, size - radius, (), generator=generator))
        shapes.append((int(torch.randint(1, 3, (), generator=generator)), x, y, radius))
    image, masks = draw(texture(size, size, seed=seed), shapes, seed=seed)
    boxes = [(x - r, y - r, x + r + 1, y + r + 1) for _, x, y, r in shapes]
    return image, {
        "boxes": torch.tensor(boxes, dtype=torch.float32),
        "labels": torch.tensor([label for label, *_ in shapes]),
        "masks": masks.byte(),
    }


class Backbone(nn.Module):
    """Three convolutions, an eighth of the size."""

    out_channels = 32

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                )
                for channels, width in ((3, 16), (16, 32), (32, 32))
            )
        )

    def forward(self, image: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict([("0", self.layers(image))])


def tiny_mask_rcnn(size: int = 96) -> nn.Module:
    """torchvision's Mask R-CNN with three labels and small heads, untrained."""
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    channels = Backbone.out_channels
    return MaskRCNN(
        Backbone(),
        min_size=size,
        max_size=size * 2,
        rpn_anchor_generator=AnchorGenerator(((20, 28),), ((1.0,),)),
        rpn_pre_nms_top_n_train=100,
        rpn_pre_nms_top_n_test=50,
        rpn_post_nms_top_n_train=50,
        rpn_post_nms_top_n_test=20,
        box_roi_pool=MultiScaleRoIAlign(["0"], 5, 2),
        box_head=TwoMLPHead(channels * 25, 64),
        box_predictor=FastRCNNPredictor(64, len(NAMES)),
        box_batch_size_per_image=32,
        box_score_thresh=0.5,
        box_nms_thresh=0.3,
        mask_roi_pool=MultiScaleRoIAlign(["0"], 10, 2),
        mask_head=MaskRCNNHeads(channels, (32,), 1),
        mask_predictor=MaskRCNNPredictor(32, 32, len(NAMES)),
    )


def trained_mask_rcnn(steps: int = 200, batch: int = 4) -> nn.Module:
    """The small net after a few seconds of training on `scene`; seeded."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = tiny_mask_rcnn().train()
        optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
        for step in range(steps):
            images, targets = zip(*(scene(step * batch + i) for i in range(batch)), strict=True)
            loss = sum(net(list(images), list(targets)).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval()
