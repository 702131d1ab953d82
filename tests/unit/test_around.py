"""Windows made of smaller ones, against those gone through one by one."""

import pytest
import torch

from cbs_core.temporal.around import highest_around, mean_around, sums

SIZES = [(1, 1), (2, 3), (3, 11), (8, 8), (31, 17)]
SIDES = [1, 3, 5, 7, 9, 15, 21]


def window(values, y, x, side):
    reach = side // 2
    return values[..., max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", SIDES)
def test_means_and_highest_values(size, side):
    values = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(7))
    means, highest = mean_around(values, side), highest_around(values, side)
    for y in range(size[0]):
        for x in range(size[1]):
            part = window(values.double(), y, x, side)
            assert torch.allclose(means[..., y, x].double(), part.mean((2, 3)), atol=1e-6)
            assert torch.equal(highest[..., y, x].double(), part.amax((2, 3)))


@pytest.mark.parametrize("side", [1, 2, 3, 4, 6, 7, 8, 12])
def test_sums_of_whole_windows(side):
    values = torch.arange(12 * 15, dtype=torch.float32).view(1, 1, 12, 15)
    due = values.unfold(2, side, 1).unfold(3, side, 1).sum((4, 5))
    assert torch.equal(sums(values, side), due)
