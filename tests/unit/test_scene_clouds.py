"""Splats restyled: what is routed changes, and nothing else."""

import numpy as np
import pytest
import torch

from cbs_core.contract.errors import ConfigError
from cbs_core.scene import cameras, consistency, vote
from cbs_core.scene.classes import parsed
from cbs_core.scene.clouds import restyle as restyle_splats
from cbs_core.scene.session import opened
from cbs_core.scene.splatting import Splatter
from tests import scenes
from tests.restyling import GREEN, request


def test_splats_of_a_class_are_restyled_and_the_others_are_not(tmp_path) -> None:
    splats = scenes.cloud(500)
    file = opened(scenes.splat_ply(tmp_path / "a.ply", splats))
    restyled = restyle_splats(file, request())
    restyled.write(tmp_path / "b.ply")
    again = opened(tmp_path / "b.ply").splats
    red = np.arange(500) % 2 == 0
    changed = (again.colours != file.splats.colours).any(1)
    assert (changed == red).mean() > 0.95
    assert np.array_equal(again.colours[~changed], file.splats.colours[~changed])
    view = cameras.orbit(restyled.ball, 0, 0, 64)
    picture, labels = restyled.after(view), restyled.classes(view)
    assert np.isfinite(labels).all()
    dense = restyled.before(view)
    was_red = (dense[..., 0] > 0.6) & (dense[..., 2] < 0.3)
    assert was_red.sum() > 50
    assert np.abs(picture[was_red] - GREEN).mean() < 0.08


def test_specks_of_another_class_go_and_a_border_stays() -> None:
    rng = np.random.default_rng(0)
    points = np.hstack([rng.random((8000, 2)) * [160, 50], np.zeros((8000, 1))])
    right = (points[:, 0] > 80).astype(int)
    said = np.where(rng.random(8000) < 0.05, 1 - right, right)
    votes = np.eye(2)[said] * 0.8 + 0.1
    votes[np.hypot(points[:, 0] - 40, points[:, 1] - 25) < 5] = 0.42, 0.58
    votes *= rng.random((8000, 1)) + 0.01  # some are seen more than others
    wrong = vote.shared(votes, points).argmax(1) != right
    assert (said != right).mean() > 0.04
    assert wrong.mean() < 0.01
    assert np.abs(points[wrong, 0] - 80).max() < 4  # the points lie about 1 apart
    assert vote.shared(votes[:1], points[:1]).shape == (1, 2)


def test_classes_are_any_words_by_a_segmenter_that_takes_them(tmp_path) -> None:
    file = opened(scenes.splat_ply(tmp_path / "a.ply", scenes.cloud(300)))
    routes = {"a helmet": {"styler": "green"}, "not his coat": {"styler": "green"}}
    asked = request(segmenter={"name": "by_word"}, routes=routes, views=6, size=48)
    assert restyle_splats(file, asked).routes[0].classes == ("a helmet",)
    mesh = opened(scenes.glb(tmp_path / "box.glb")).mesh
    routes = {"a lorry": {}, "material:blue": {}}
    asked = request(segmenter={"name": "by_word"}, routes=routes)
    found, segmenter = parsed(asked, vote.names(mesh, "material"))
    assert segmenter is not None
    assert segmenter.classes == ("background", "a lorry")
    assert [r.classes for r in found] == [("a lorry",), ("material/blue",)]


def test_the_shine_of_splats_is_kept_or_given_up(tmp_path) -> None:
    """Beside `flat`, `keep` leaves every further coefficient, and the sum of both is the style."""
    splats = scenes.cloud(400, degree=1)
    file = opened(scenes.splat_ply(tmp_path / "a.ply", splats))
    red = np.arange(400) % 2 == 0
    found = {}
    for harmonics in ("flat", "keep"):
        restyled = restyle_splats(file, request(harmonics=harmonics))
        restyled.write(tmp_path / f"{harmonics}.ply")
        again = found[harmonics] = opened(tmp_path / f"{harmonics}.ply").splats
        assert np.array_equal(again.harmonics[~red], file.splats.harmonics[~red])
        views = [cameras.orbit(restyled.ball, turn, 10, 48) for turn in (0, 180)]
        for camera in views:
            was = restyled.before(camera)
            ball = (was[..., 0] > 0.6) & (was[..., 2] < 0.3)
            assert np.abs(restyled.after(camera)[ball] - GREEN).mean() < 0.12
    assert not found["flat"].harmonics[red].any()
    assert np.array_equal(found["keep"].harmonics, file.splats.harmonics)


def test_restyled_splats_look_as_alike_from_two_sides_as_they_did(tmp_path) -> None:
    file = opened(scenes.splat_ply(tmp_path / "a.ply", scenes.cloud(500, degree=1)))
    red = restyle_splats(file, request(views=16))
    for told in consistency.measured(red, lambda: None).values():
        assert told["before"] > 0
        assert told["after"] <= 1.2 * told["before"]


def test_one_of_two_clouds_is_selected_by_a_point(tmp_path) -> None:
    """Both are cars: the one that is at the point in the first view is restyled."""
    splats = scenes.cloud(600)
    splats.colours[:] = np.array(scenes.RED) / 255
    splats.means[:] = splats.means * [0.25, 0.3, 0.3]
    side = np.arange(600) % 2 == 1
    splats.means[side] += [2.0, 0, 0]
    file = opened(scenes.splat_ply(tmp_path / "a.ply", splats))
    asked = request()
    whole = restyle_splats(file, asked)
    first = cameras.dome(whole.ball, asked.views, asked.size)[0]
    for one, own in ((~side, 0), (side, 1)):
        at, _ = first.seen(splats.means[one].mean(0)[None])
        x, y = np.round(at[0]).astype(int)
        restyled = restyle_splats(file, request(select=f"{x},{y}"))
        restyled.write(tmp_path / "b.ply")
        changed = (opened(tmp_path / "b.ply").splats.colours != file.splats.colours).any(1)
        assert changed[one].mean() > 0.9, own
        assert not changed[~one].any(), own
    with pytest.raises(ConfigError, match="nothing that is restyled"):
        restyle_splats(file, request(select="1,1"))


MARKED = {
    0: [(198, 18, 226, 50), (200, 95, 232, 165), (195, 190, 222, 240), (172, 370, 200, 380)],
    270: [(186, 16, 210, 48), (172, 95, 225, 150), (222, 205, 240, 240)],
}
"""Boxes (left, top, right, bottom) that show nothing but the man, marked by hand in two views of
400 pixels: head, trunk, a thigh, a boot. The scene is one man with a helmet in his hand; no
motorbike is in it."""


@pytest.mark.shared
def test_the_biker_is_a_person_where_a_hand_marked_him(shared, tmp_path) -> None:
    path = shared / "data" / "3d" / "biker.spz"
    if not path.is_file():
        pytest.skip("no data/3d in ../shared")
    file = opened(path)
    asked = request(segmenter={"name": "smp"}, routes=["person"], views=4, size=192, iterations=0)
    restyled = restyle_splats(file, asked)
    restyled.write(tmp_path / "out.spz")
    again = opened(tmp_path / "out.spz").splats
    splatter = Splatter(file.splats, torch.device("cpu"))
    seen = np.zeros(len(file.splats.means))
    for turn, boxes in MARKED.items():
        weights = splatter.weights(cameras.orbit(restyled.ball, turn, 10, 400))
        for left, top, right, bottom in boxes:
            rows, columns = np.mgrid[top:bottom, left:right]
            part = weights[(rows * 400 + columns).ravel()]
            assert part.sum(1).min() > 0.9  # the box lies within the man
            seen += np.asarray(part.sum(0))[0]
    shown = seen > 0.05
    assert shown.sum() > 2000
    told = restyled.facts["classes"]
    touched = np.abs(again.colours - file.splats.colours).max(1) > 0
    assert touched[shown].mean() >= 0.95
    # What is not the man's stays to the bit, and so does all that is no colour.
    assert told[0]["splats"] >= touched.sum()
    for field in ("means", "scales", "rotations", "opacities"):
        assert np.array_equal(getattr(again, field), getattr(file.splats, field)), field
