"""The measures against masks whose scores are known."""

import math

import numpy as np
import pytest

from cbs_core.evaluation.metrics import background_error, boundary_f, boundary_iou, iou


def square(left: int, *, side: int = 100, size: int = 200) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[50 : 50 + side, left : left + side] = True
    return mask


def test_equal_masks_score_one() -> None:
    mask = square(50)
    assert iou(mask, mask) == boundary_f(mask, mask) == boundary_iou(mask, mask) == 1


@pytest.mark.parametrize("measure", [iou, boundary_f, boundary_iou])
def test_two_empty_masks_agree_and_one_does_not(measure) -> None:
    empty = np.zeros((200, 200), bool)
    assert measure(empty, empty) == 1
    assert measure(empty, square(50)) == measure(square(50), empty) == 0


def test_iou_of_a_shift() -> None:
    assert iou(square(50), square(60)) == 90 / 110


def test_boundary_f_forgives_up_to_its_tolerance() -> None:
    tolerance = math.ceil(0.008 * math.hypot(200, 200))
    assert boundary_f(square(50), square(50 + tolerance)) == 1
    # One pixel more, and the two vertical edges of four miss each other, but for their ends.
    assert boundary_f(square(50), square(51 + tolerance)) == pytest.approx(0.5, abs=0.04)


def test_boundary_iou_counts_bands_only() -> None:
    width = round(0.02 * math.hypot(200, 200))
    band = 100**2 - (100 - 2 * width) ** 2
    hollow = square(50)
    hollow[80:120, 80:120] = False  # far inside: two boundaries more, in one of the masks
    extra = (40 + 2 * width) ** 2 - 40**2
    assert boundary_iou(square(50), hollow) == pytest.approx(band / (band + extra))


def test_background_error_is_in_levels_and_outside_only() -> None:
    original = np.full((4, 4, 3), 100, np.uint8)
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    result = original.copy()
    result[:2] = 255
    assert background_error(result, original, mask) == 0
    result[3] = 98
    assert background_error(result, original, mask) == 1
