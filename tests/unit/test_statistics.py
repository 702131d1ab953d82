"""When statistics change, and that scene cuts are told from motion and noise."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from cbs_core.contract.errors import ConfigError
from cbs_core.temporal.scenes import Scene, thumbnail
from cbs_core.temporal.statistics import BLEND, Statistics, due, taken
from cbs_core.temporal.wanted import Policy, parse_statistics


def drive(policy, scenes):
    """Styles a frame a scene number, whose own statistics are the frame's number."""
    now, used, when = None, [], []
    for frame, scene in enumerate(scenes):
        if due(policy, now, scene):
            when.append(frame)
            now = taken(policy, now, torch.full((1, 1), float(frame)), scene)
        now = now.step()
        if frame == len(scenes) // 2:
            now = Statistics.restore(now.state())
        used.append(now.now.item())
    return used, when


def test_frozen_are_the_first_frames_even_after_a_cut():
    assert drive(Policy(), [0, 0, 1, 2]) == ([0, 0, 0, 0], [0])


def test_a_scene_cut_changes_them_at_once():
    used, when = drive(Policy(on_cut=True), [3, 3, 3, 4, 4])
    assert when == [0, 3]
    assert used == [0, 0, 0, 3, 3]


def test_a_refresh_is_blended_evenly_and_ends_at_the_new_ones():
    used, when = drive(Policy(every=20, on_cut=True), [0] * 40)
    assert when == [0, 20]
    assert used[:20] == [0] * 20
    steps = torch.tensor(used[19 : 20 + BLEND]).diff()
    torch.testing.assert_close(steps, torch.full((BLEND,), 20 / BLEND))
    assert used[20 + BLEND - 1 :] == pytest.approx([20] * (20 - BLEND + 1))


def test_a_cut_amid_a_blend_ends_it():
    used, _ = drive(Policy(every=4, on_cut=True), [0] * 6 + [1] * 3)
    assert 0 < used[5] < 4
    assert used[6:9] == [6, 6, 6]


def test_a_cut_while_the_style_was_absent_counts_when_it_shows_again():
    policy = Policy(on_cut=True)
    now = taken(policy, None, torch.zeros(1, 1), scene=0).step()
    assert not due(policy, now, scene=0)
    assert due(policy, now, scene=5)


@pytest.mark.parametrize(
    "spec",
    [
        "never",
        "refresh",
        "refresh:0",
        "refresh:-2",
        None,
        3,
        f"refresh:{10**9}",
        "refresh:" + "9" * 5000,
    ],
)
def test_another_value_is_one_clear_line(spec):
    with pytest.raises(ConfigError, match="is none of frame") as error:
        parse_statistics(spec)
    assert "\n" not in str(error.value)


def picture(seed, size=(180, 320)):
    """A smooth random picture with contrast, (1,3,H,W)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(3, *size, generator=generator).numpy()
    smooth = torch.from_numpy(gaussian_filter(noise, (0, 12, 12)))
    return ((smooth / smooth.std()) * 0.25 + 0.5).clamp(0, 1)[None]


def numbers(frames):
    scene, found = Scene(), []
    for frame in frames:
        scene = Scene.restore(scene.after(thumbnail(frame)).state())
        found.append(scene.number)
    return found


def test_every_other_picture_is_another_scene():
    assert numbers([picture(0), picture(1), picture(2)]) == [0, 1, 2]
    assert numbers([picture(0), picture(1), picture(1), picture(0)]) == [0, 1, 1, 2]


def test_motion_noise_and_light_are_no_scene_cut():
    still = picture(0)
    pan = [still.roll(4 * i, 3) for i in range(20)]
    assert numbers(pan) == [0] * 20
    noisy = [(still + 0.05 * torch.randn_like(still)).clamp(0, 1) for _ in range(5)]
    assert numbers(noisy) == [0] * 5
    assert numbers([still * (1 - 0.05 * i) for i in range(5)]) == [0] * 5


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (65, 131)])
def test_any_size_can_be_compared(size):
    assert numbers([torch.zeros(1, 3, *size), torch.ones(1, 3, *size)]) == [0, 1]


@pytest.mark.shared
def test_real_pictures_are_scenes_and_a_real_clip_is_one(shared):
    import numpy as np
    from PIL import Image

    def read(path):
        pixels = np.array(Image.open(path).convert("RGB").resize((640, 360)))
        return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255

    pictures = [read(path) for path in sorted((shared / "data/pictures").glob("*.jpg"))[:8]]
    found = numbers(pictures)
    print(f"scenes of {len(found)} pictures: {found}")
    assert found[-1] >= 0.7 * (len(found) - 1)
