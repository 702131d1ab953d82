"""SAM: the mask of whatever a point or a box marks, through transformers.

Kirillov et al. 2023 (2304.02643) and its kin: SlimSAM, HQ-SAM, SAM 2.

Letters: ``N`` things, ``M`` masks of each, ``H W`` the frame, ``h w`` the net's output.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cbs_core.contract.errors import WeightsError
from cbs_plugins.formats import hub
from cbs_plugins.nets.transformers import Preparation, widened

FAMILIES = {
    "sam": "SamModel",
    "sam_hq": "SamHQModel",
    "sam2": "Sam2Model",
    "sam2_video": "Sam2Model",
}
"""The class of transformers by a checkpoint's ``model_type``; of SAM 2's for films the part for
pictures is used."""

USUAL = "facebook/sam-vit-base"
"""Apache-2.0, some 375 MB."""

OUTSIDE = -20.0
"""Logit of what a mask is not."""


def find(model: str | None, revision: str | None = None, *, key: str) -> "tuple[Sam, Any]":
    """Returns a checkpoint's net, and what was read (`hub.Pretrained`).

    Args:
        model: a folder, or a name on the Hub.
        revision: branch, tag or commit on the Hub.
        key: of the configuration, for messages.

    Raises:
        CbsError: as `hub.find`, `hub.load` and `hub.processor` do, or it is no SAM.
    """

    def check(name: str, config: Any) -> None:
        if config.get("model_type") not in FAMILIES:
            raise WeightsError(
                f"'{name}' is {config.get('model_type') or 'of no known kind'}, which makes no "
                f"masks of points and boxes: choose one of the families {', '.join(FAMILIES)}, "
                f"such as {key}={USUAL}"
            )

    found = hub.find(model, revision, key=key, check=check)
    kind = getattr(hub.library(), FAMILIES[found.config["model_type"]])
    net = hub.load(found, kind, hub.configuration(found, kind))
    return Sam(net, hub.processor(found)), found


class Sam(nn.Module):
    """A net that makes masks of prompts.

    Args:
        net: of transformers.
        processor: its image processor.
    """

    def __init__(self, net: Any, processor: Any) -> None:
        super().__init__()
        self.net = net
        self.prepare = Preparation(processor)
        prompts = net.config.prompt_encoder_config
        self.side = 4 * (prompts.image_size // prompts.patch_size)
        """Of the masks that it takes, pixels."""

    def forward(
        self,
        image: Tensor,
        *,
        points: Tensor | None = None,
        boxes: Tensor | None = None,
        mask: Tensor | None = None,
        several: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Returns logits of masks ``(N,M,H,W)`` and how good each is, ``(N,M)`` in about [0,1].

        Args:
            image: ``(1,3,H,W)`` RGB in [0,1].
            points: ``(N,2)``, x and y of a pixel in each thing.
            boxes: ``(N,4)``, left, top, right and bottom of each, pixels; or points.
            mask: ``(1,1,*,*)``, logits of the one thing as it may be, over the whole frame.
            several: whether there are to be three masks of each: of a part, of more, of all.
        """
        height, width = image.shape[-2:]
        wide = widened(image)
        pixels = self.prepare(wide)["pixel_values"].to(image.dtype)
        given: dict[str, Any] = {}
        if points is not None:
            given["input_points"] = self._prepared(points, wide, pixels)[None, :, None]
            given["input_labels"] = torch.ones(
                1, len(points), 1, dtype=torch.int64, device=image.device
            )
        if boxes is not None:
            corners = self._prepared(boxes.reshape(-1, 2), wide, pixels)
            given["input_boxes"] = corners.reshape(1, -1, 4)
        if mask is not None:
            given["input_masks"] = self._prompt(mask, image, wide).to(image.dtype)
        out = self.net(pixel_values=pixels, multimask_output=several, **given)
        masks = out.pred_masks[0].float()
        if self.prepare.pads:  # then the library reads masks at the size of what the net sees
            masks = F.interpolate(masks, pixels.shape[-2:], mode="bilinear", align_corners=False)
        masks = self.prepare.unpadded(masks, wide)
        masks = F.interpolate(masks, wide.shape[-2:], mode="bilinear", align_corners=False)
        return masks[..., :height, :width], out.iou_scores[0].float()

    def _prepared(self, places: Tensor, image: Tensor, pixels: Tensor) -> Tensor:
        """Returns places ``(N,2)`` of a frame, x and y, as they are in what the net sees."""
        height, width = image.shape[-2:]
        box = self.prepare.box(height, width)
        if box is None:
            tall, wide = pixels.shape[-2:]
            corner, scale = (0, 0), (wide / width, tall / height)
        else:
            corner = (box.left, box.top)
            scale = ((box.right - box.left) / width, (box.bottom - box.top) / height)
        return places * places.new_tensor(scale) + places.new_tensor(corner)

    def _prompt(self, mask: Tensor, image: Tensor, wide: Tensor) -> Tensor:
        """Returns a frame's mask as the net takes one, ``(1,1,side,side)``."""
        (height, width), (tall, broad) = image.shape[-2:], wide.shape[-2:]
        mask = F.interpolate(mask, (height, width), mode="bilinear", align_corners=False)
        mask = F.pad(mask, (0, broad - width, 0, tall - height), value=OUTSIDE)
        box = self.prepare.box(tall, broad)
        if box is not None:
            inner = (box.bottom - box.top, box.right - box.left)
            mask = F.interpolate(mask, inner, mode="bilinear", align_corners=False)
            around = (box.left, box.size[1] - box.right, box.top, box.size[0] - box.bottom)
            mask = F.pad(mask, around, value=OUTSIDE)
        size = (self.side, self.side)
        return F.interpolate(mask, size, mode="bilinear", antialias=True, align_corners=False)
