"""What `benchmarks.latency` reads from pictures, and what it says."""

import pytest
import torch

from benchmarks import latency
from cbs_core.live import pictures


@pytest.mark.parametrize("index", [0, 1, 1000, 2**latency.BITS - 1])
def test_a_frames_number_is_read_again_and_by_jpeg_too(index):
    picture = torch.full((120, 160, 3), 130, dtype=torch.uint8)
    made = latency.numbered(picture, index)
    assert (picture == 130).all()
    assert (made[latency.SQUARE :] == 130).all()
    assert latency.number(made.numpy()) == index
    file = pictures.encode(made.numpy())
    assert latency.number(pictures.decode(file, pixels=10**6).numpy()) == index


def test_what_must_hold_is_told_in_milliseconds():
    figures = dict.fromkeys(
        (f"{one}_{at}" for one in ("took", "age", "gap") for at in ("p50", "p95", "max")), 0.05
    )
    style = {"style": "wave", "comes": 0.5, "pause": 0.2, "stall": 0.1, "then": 0.06}
    more = {"size": 256, "rate": 10.0, "frames": 100, "dropped": 2, "bound": 0.25}
    told = latency.lines({**figures, **more, "styles": [style]}).splitlines()
    assert told[0].endswith("10.0 FPS: 100 frames shown, 2 dropped")
    assert "(two periods and a frame: 250)" in told[1]
    assert told[-1] == "| wave | 500 | 200 | 100 | 60 |"
