"""The reference workload computes what ours computes, so that their times may be compared."""

import pytest
import torch
from cbs_plugins.nets.dabnet import MEANS, DABNet
from cbs_plugins.nets.johnson import TransformerNet

from benchmarks.peers.reference_flow import ReferenceFlow
from cbs_core.run import workshop
from cbs_core.run.stream import Stream
from cbs_core.words import vocabularies


@pytest.mark.parametrize("width", [16, 32])
def test_it_equals_ours(tmp_path, width):
    torch.manual_seed(0)
    segmenter, styler = DABNet(19).state_dict(), TransformerNet(width).state_dict()
    # Untrained, it paints almost black, where any two pictures are close: spread it over the range.
    styler["deconv3.conv2d.weight"].mul_(60)
    styler["deconv3.conv2d.bias"].fill_(128)
    torch.save(segmenter, tmp_path / "dabnet.pth")
    torch.save(styler, tmp_path / "style.pth")
    config = {
        "segmenter": {"name": "dabnet", "weights": str(tmp_path / "dabnet.pth")},
        "styler": {"name": "johnson", "weights": str(tmp_path / "style.pth"), "grid": True},
        "compositor": {"name": "hard"},
        "accelerator": {"name": "eager"},
        "matte": "argmax",
        "routes": list(vocabularies.get("cityscapes")),
    }
    ours = Stream(workshop.plan(config, device=torch.device("cpu"), dtype=torch.float32))
    mean = MEANS["cityscapes"]
    image = torch.rand(1, 3, 64, 128)
    styled, logits = ReferenceFlow(segmenter, styler, width=width, mean=mean)(image)
    with torch.inference_mode():
        result = ours(image)
    torch.testing.assert_close(result.logits, logits, rtol=1e-3, atol=1e-3)
    (picture,) = result.styled.values()
    torch.testing.assert_close(picture, styled, rtol=0, atol=1e-4)
    assert styled.std() > 0.05
