"""What editors take beside the composite: the mattes as they were blended, the classes cut out.

Letters: ``B`` batch, ``R`` routes, ``H W`` the frame.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cbs_core.contract.tensors import to_levels, to_pixels
from cbs_core.frame.pipeline import Result, routed

FAINT = 0.5 / 255
"""Cover that 8 bits show as none."""


@dataclass(frozen=True, slots=True)
class Exports:
    """What leaves a run beside, or instead of, the composite."""

    mattes: bool = False
    """Each route's matte, as `cbs_core.contract.types.RawFrame.mattes`."""

    cutout: bool = False
    """The restyled classes alone, the rest transparent, in the place of the composite."""

    @property
    def any(self) -> bool:
        """Whether there is something."""
        return self.mattes or self.cutout


def mattes(covers: Tensor) -> tuple[Tensor, ...]:
    """Returns the first frame's mattes, of ``(B,R,H,W)``, as uint8 ``(H,W)`` on the host."""
    return tuple(to_levels(covers[0]).cpu())


def cut_out(image: Tensor, result: Result) -> tuple[Tensor, Tensor]:
    """Returns the restyled classes alone.

    The transparency is straight, not premultiplied: laid over the picture, it gives the composite,
    ``U = a · F + (1 - a) · I``. Under an edge the colour is the style's own, and it goes on
    beyond, so that neither scaling nor a codec's chroma draws a fringe; what was behind the classes
    is nowhere in it.

    Args:
        image: ``(B,3,H,W)`` in [0,1], the original.
        result: what the pipeline made of it, with its covers.

    Returns:
        The first frame's colours F, uint8 ``(H,W,3)``, and transparency a, uint8 ``(H,W)``, on the
        host.
    """
    assert result.covers is not None
    colours = image.new_zeros(1, 3, *image.shape[2:])
    cover = image.new_zeros(1, 1, *image.shape[2:])
    for index, route in enumerate(result.plan.routes):
        if route.style not in result.styled:
            continue
        own = result.covers[:1, index : index + 1]
        picture = routed(image, result.styled[route.style], route)[:1]
        picture = torch.lerp(image[:1], picture, route.strength)
        colours, cover = colours + own * picture, cover + own
    return to_pixels(extended(colours, cover)).cpu(), to_levels(cover[0, 0].clamp(max=1)).cpu()


def extended(colours: Tensor, cover: Tensor, least: float = FAINT) -> Tensor:
    """Returns colours for every pixel: where there is no cover, those of the covered ones nearby.

    Means of ever larger squares fill what the smaller ones left (the pull-push of Gortler et al.
    1996, The Lumigraph).

    Args:
        colours: ``(B,3,H,W)``, premultiplied by the cover.
        cover: ``(B,1,H,W)``.
        least: cover that counts.
    """
    own = colours / cover.clamp(min=1e-12)
    if cover.shape[2:] == (1, 1):
        return torch.where(cover > least, own, 0)
    half = [F.avg_pool2d(one, 2, ceil_mode=True) for one in (colours, cover)]
    around = F.interpolate(
        extended(half[0], half[1], least=0), own.shape[2:], mode="bilinear", align_corners=False
    )
    return torch.where(cover > least, own, around)
