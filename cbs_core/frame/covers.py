"""How much of each route's style a compositor blends in: the mattes that it makes of ours.

Letters: ``B`` batch, ``R`` routes, ``H W`` the frame.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cbs_core.frame.plan import Plan
from cbs_core.temporal.state import Styling


def covered(
    image: Tensor, mattes: Tensor, shown: Sequence[bool], plan: Plan, state: Styling
) -> Tensor:
    """Returns the mattes ``(B,R,H,W)`` in [0,1] by which a frame is going to be composited.

    A compositor makes ``U = A' T + (1 - A') I`` of a matte A and tells nobody its A'. So it is
    given a T that is far from I everywhere, and ``A' = (U - I) / (T - I)``.

    Args:
        image: ``(B,3,H,W)`` in [0,1].
        mattes: ``(B,R,H,W)``, strength not applied.
        shown: whether each shows anywhere.
        plan: has the compositor.
        state: what that goes on from, if it has a state; it is not advanced.

    Raises:
        PluginContractError: the compositor broke its interface.
    """
    with torch.inference_mode():
        far = (image < 0.5).to(image.dtype)
        found = torch.zeros_like(mattes)
        for index, shows in enumerate(shown):
            if shows:
                plan.compositor.at(state.compositor)
                alpha = mattes[:, index : index + 1]
                out = plan.compositor.like(plan.compositor(image, far, alpha), image)
                plan.compositor.memory()
                found[:, index] = ((out - image) / (far - image)).mean(1).clamp_(0, 1)
        return found
