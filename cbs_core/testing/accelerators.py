"""The suite of accelerators."""

import pytest
import torch
from torch import Tensor, nn

from cbs_core.contract.accelerated import Accelerated, Kind
from cbs_core.contract.interfaces import Accelerator
from cbs_core.testing.helpers import picture


class _Window(nn.Module):
    """A convolution whose result is shifted by a second input, and its mean: two in, two out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        out = self.conv(image) + shift[:, :, None, None]
        return out, out.mean((2, 3))


class AcceleratorSuite:
    """Conformance of an `Accelerator`: it must equal the module run in float32."""

    tolerance = 1e-4
    """Absolute difference allowed in float32."""

    device = "cpu"
    """Where it runs; ``cuda`` skips all of it where there is none."""

    def create(self) -> Accelerator:
        """Returns a new plugin."""
        raise NotImplementedError("override create() to return your plugin")

    def accelerate(self, module: nn.Module, kind: Kind = "styler") -> Accelerated:
        """Returns a module made fast in float32."""
        if self.device == "cuda" and not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        device = torch.device(self.device)
        return self.create()(module, device=device, dtype=torch.float32, kind=kind)

    def check(self, have: Tensor, want: Tensor) -> None:
        """Fails where a result is not the module's own."""
        assert have.dtype == torch.float32
        assert have.device.type == self.device
        torch.testing.assert_close(have.cpu(), want, atol=self.tolerance, rtol=0)

    @staticmethod
    def module() -> nn.Module:
        """Returns a small net, the same each time."""
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1)).eval()

    @pytest.mark.parametrize("kind", ["styler", "segmenter"])
    @pytest.mark.parametrize("size", [(64, 96), (65, 131)], ids=str)
    def test_equals_the_module(self, size: tuple[int, int], kind: Kind) -> None:
        """float32 in and out, the module's own values."""
        image = picture(*size)
        with torch.inference_mode():
            want = self.module()(image)
            call = self.accelerate(self.module(), kind)
            for _ in range(2):
                self.check(call(image.to(self.device)), want)

    def test_serves_several_sizes_and_batches(self) -> None:
        """One after the other, and again; what was given earlier is not written over."""
        call = self.accelerate(self.module())
        images = [picture(48, 64), picture(40, 72), torch.cat([picture(48, 64, seed=1)] * 2)]
        with torch.inference_mode():
            wants = [self.module()(image) for image in images]
            haves = [call(image.to(self.device)) for image in (*images, *images)]
        for have, want in zip(haves, (*wants, *wants), strict=True):
            self.check(have, want)

    def test_what_was_prepared_is_built(self) -> None:
        """`prepare` makes a shape ready, which `built` tells."""
        call = self.accelerate(self.module())
        assert isinstance(call, Accelerated)
        with torch.inference_mode():
            call.prepare(picture(48, 64).to(self.device))
        assert set(call.built) == {(1, 3, 48, 64)}

    def test_takes_and_returns_several_tensors(self) -> None:
        """As the two nets of a styler that restyles windows do."""
        torch.manual_seed(0)
        module = _Window().eval()
        image, shift = picture(48, 64), torch.tensor([[0.1, 0.2, 0.3]])
        with torch.inference_mode():
            want = module(image, shift)
            call = self.accelerate(module)
            have = call(image.to(self.device), shift.to(self.device))
        assert isinstance(have, tuple)
        for ours, theirs in zip(have, want, strict=True):
            self.check(ours, theirs)

    def test_leaves_its_input_alone(self) -> None:
        """The frame is shared with other plugins, so it may not be written to."""
        image = picture(48, 64).to(self.device)
        before = image.clone()
        with torch.inference_mode():
            self.accelerate(self.module())(image)
        assert torch.equal(image, before)
