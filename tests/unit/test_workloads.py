"""What is timed is what is said: the matte's share, the objects, and what is not offered."""

import pytest
from scipy import ndimage

from benchmarks.workloads import FRAME_BY_FRAME, Nets, NotOfferedError, Scene, ours

EAGER = (*FRAME_BY_FRAME, "accelerator=eager", "precision=fp32")


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    return Nets(tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize(
    "scene",
    [Scene(128, 256, 0.1, 2), Scene(128, 256, 0.25, 1), Scene(128, 256), Scene(128, 256, 0)],
    ids=str,
)
def test_the_matte_is_as_planted(nets, scene):
    run = ours(nets, scene, 8, EAGER)
    assert run.share == pytest.approx(scene.share, abs=0.02)
    assert ndimage.label(run.matte)[1] == (scene.objects if scene.share else 0)
    changed = (run().pixels != run.raw.pixels).any(-1)
    assert not changed[~run.matte].any()
    assert changed.float().mean() == pytest.approx(run.share, rel=0.1)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("accelerator=warp", "accelerator/warp"),
        ("precision=fp3", "no precision 'fp3'"),
        ("styler.nowhere=mask", "styler.nowhere"),
    ],
)
def test_what_is_not_offered_is_named(nets, words, reason):
    with pytest.raises(NotOfferedError, match=reason):
        ours(nets, Scene(64, 64), 8, (*EAGER, words))
