"""A folder of pictures of many sizes: what is kept of each is bounded."""

import pytest
import torch
from torch import Tensor, nn

from cbs_core.frame.styling import SIZES, ByStatistics
from cbs_core.temporal.wanted import SCENE


class Padded(nn.Module):
    """Takes another way at another size, so that each is converted by itself."""

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        padded = nn.functional.pad(image, (0, -width % 8, 0, -height % 8))
        return padded.mean(1, keepdim=True)


def test_grids_of_windows_are_bounded() -> None:
    made = ByStatistics(
        "a styler",
        nn.Identity(),
        nn.Identity(),
        policy=SCENE,
        masked=True,
        halo=32,
        align=4,
        reach=0,
        bytes_per_pixel=1,
    )
    first = made._planner(64, 64)
    for height in range(64, 64 + 3 * SIZES):
        assert made._planner(height, 64) is made._planner(height, 64)
    assert len(made._planners) == SIZES
    assert made._planner(64, 64) is not first


def test_a_converted_net_is_kept_for_one_size_at_a_time(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cbs_core.accelerators.openvino import Net
    from cbs_core.accelerators.store import Store

    monkeypatch.setenv("CBS_CACHE", str(tmp_path))
    module = Padded().eval()
    net = Net(module, Store(module, torch.device("cpu")), "styler")
    picture = (torch.rand(1, 3, 16, 16),)
    net.read(picture, fixed=False)
    for side in range(9, 14):
        model = net.read((torch.rand(1, 3, side, side),), fixed=True)
        assert [*model.outputs[0].shape] == [1, 1, 16, 16]
    assert len(net._kept) == 2
