"""The operations are counted as one counts them by hand."""

import pytest
import torch

from benchmarks.floor import gflop, rate


def by_hand(height, width, n):
    """TransformerNet's multiply-adds, twice: a convolution costs its weights a pixel of output."""
    pixels = height * width
    full = (81 * 3 * n + 9 * 2 * n * n + 81 * n * 3) * pixels
    half = (9 * n * 2 * n + 9 * 4 * n * 2 * n) * pixels / 4
    quarter = (9 * 2 * n * 4 * n + 10 * 9 * 16 * n * n) * pixels / 16
    return 2 * (full + half + quarter) / 1e9


@pytest.mark.parametrize("channels", [16, 32])
def test_the_style_net_as_by_hand(channels):
    counted = gflop(64, 128, channels)
    assert counted["style"] == pytest.approx(by_hand(64, 128, channels), rel=1e-6)
    assert 0 < counted["segment"] < counted["style"]


def test_the_paper_s_size():
    assert sum(gflop(1024, 2048, 32).values()) == pytest.approx(727, rel=0.02)


def test_the_rate_is_positive():
    assert rate(torch.float32) > 1
