"""Mask R-CNN keeps the contract: through its registry, and trained, so that it finds something."""

import pytest
import torch

from cbs_core import testing
from cbs_core.choose.registry import segmenters
from tests.shapes import NAMES

torchvision = pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Seeded weights on a small ResNet."""
    from cbs_plugins.segmenters.maskrcnn import create

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = create("v1", "resnet18", num_classes=21)
    path = tmp_path_factory.mktemp("maskrcnn") / "voc.pth"
    torch.save(net.state_dict(), path)
    return path


class TestMaskRCNN(testing.InstanceSegmenterSuite):
    plugin = "segmenter/maskrcnn"

    @pytest.fixture(autouse=True)
    def _file(self, file):
        self.file = file

    def create(self):
        return segmenters.create(
            "maskrcnn",
            weights=str(self.file),
            backbone="resnet18",
            max_size=96,
            score_threshold=0.1,
        )


class TestTrained(testing.InstanceSegmenterSuite):
    @pytest.fixture(autouse=True)
    def _net(self, mask_rcnn):
        self.net = mask_rcnn

    def create(self):
        from cbs_plugins.segmenters.maskrcnn import DetectionSegmenter

        return DetectionSegmenter(self.net, NAMES)
