"""A disc that is missed in every third frame is held, and patches of noise beside it never show."""

import pytest

from benchmarks.discs import Disc, held


@pytest.mark.parametrize("disc", [Disc(), Disc(paint="plain", chance=1)], ids=["striped", "plain"])
def test_a_fast_disc_is_held_whole_without_trail_or_patch(disc: Disc) -> None:
    """24 pixels a frame across a photograph, as `benchmarks.discs` tells."""
    found = held(disc)
    assert found.least > 0.85
    assert found.beyond == 0
    assert found.stays <= 2


def test_by_itself_each_frame_shows_the_patches() -> None:
    found = held(Disc(), "off")
    assert found.least == 0
    assert found.beyond > 3
