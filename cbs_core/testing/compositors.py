"""The suite of compositors."""

import pytest
import torch
from torch import Tensor, nn

from cbs_core.contract.interfaces import Compositor
from cbs_core.testing.helpers import CUDA, SIZES, no_device_wait, picture


class CompositorSuite:
    """Conformance of a `Compositor`."""

    hard_edges = False
    """Whether a matte of 0 must give the picture to the bit, everywhere."""

    linear = True
    """Whether it is linear in the matte; one that is not is linear in the matte's scale at least,
    and superposes routes whose mattes lie far apart."""

    waits = False
    """As for stylers: only an algorithm that decides on the host may wait for the device."""

    def create(self) -> Compositor:
        """Returns a new plugin; overridden by the subclass."""
        raise NotImplementedError("override create() to return your plugin")

    def blend(self, alpha: Tensor, *, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """Returns image, styled and the compositor's picture for a matte ``(1,1,H,W)``."""
        compositor = self.create()
        if isinstance(compositor, nn.Module):
            compositor.to(device)
        height, width = alpha.shape[2:]
        image = picture(height, width).to(device)
        styled = picture(height, width, seed=1).to(device)
        alpha = alpha.to(device)
        with torch.inference_mode():
            compositor(image, styled, alpha)
            with no_device_wait("cpu" if self.waits else device):
                return image, styled, compositor(image, styled, alpha)

    def test_fills_the_protocol(self) -> None:
        """It can be called."""
        assert isinstance(self.create(), Compositor)

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_an_empty_matte_leaves_the_picture(self, size: tuple[int, int]) -> None:
        """A matte of 0 gives the original to the bit."""
        image, _, out = self.blend(torch.zeros(1, 1, *size))
        assert torch.equal(out, image)

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_a_full_matte_gives_the_style(self, size: tuple[int, int]) -> None:
        """A matte of 1 gives the styled picture."""
        _, styled, out = self.blend(torch.ones(1, 1, *size))
        torch.testing.assert_close(out, styled, atol=2e-3, rtol=0)

    def test_a_quarter_of_the_matte_is_a_quarter_of_the_change(self) -> None:
        """A route's strength scales its matte."""
        image, styled, out = self.blend(torch.full((1, 1, 64, 96), 0.25))
        torch.testing.assert_close(out, torch.lerp(image, styled, 0.25), atol=2e-3, rtol=0)

    def test_is_linear_in_the_matte(self) -> None:
        """Routes are superposed by the core, which needs linearity."""
        if not self.linear:
            pytest.skip("this compositor is linear in the matte's scale only")
        # Mattes away from 0 and 1 leave room for a filter's overshoot, which may be cut there.
        left = torch.full((1, 1, 64, 96), 0.4)
        left[..., :30] = 0.6
        right = torch.full((1, 1, 64, 96), 0.4)
        right[..., 60:] = 0.6
        both = self.blend(0.3 * left + 0.7 * right)[2]
        parts = 0.3 * self.blend(left)[2] + 0.7 * self.blend(right)[2]
        torch.testing.assert_close(both, parts, atol=1e-4, rtol=0)

    def test_a_hard_background_is_exact(self) -> None:
        """Where `hard_edges` says so, pixels outside the matte are the original's to the bit."""
        if not self.hard_edges:
            pytest.skip("this compositor softens edges")
        alpha = torch.zeros(1, 1, 64, 96)
        alpha[..., 20:40, 30:50] = 1
        image, _, out = self.blend(alpha)
        outside = (alpha == 0).expand_as(out)
        assert torch.equal(out[outside], image[outside])

    @pytest.mark.parametrize("device", [CUDA])
    def test_runs_on_cuda_without_waiting(self, device: str) -> None:
        """The result equals the CPU's, and no host wait happens."""
        alpha = torch.zeros(1, 1, 64, 96)
        alpha[..., 20:40, 30:50] = 1
        torch.testing.assert_close(
            self.blend(alpha, device=device)[2].cpu(), self.blend(alpha)[2], atol=1e-3, rtol=0
        )
