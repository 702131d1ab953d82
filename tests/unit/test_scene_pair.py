"""A man and a motorbike in one scene, each in its own style, and what is around as it was.

The scenes at hand show one thing each. Here the man of ``../shared/data/3d`` stands beside the
motorbike of scikit-image's stereo photograph (Scharstein et al. 2014), a splat for each pixel at
the depth that was measured there. So it is known of which splat of the man's what it is; in the
photograph a hand marked boxes.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cbs_core.choose import registry
from cbs_core.scene.camera_files import chosen
from cbs_core.scene.cameras import Ball, orbit
from cbs_core.scene.clouds import restyle
from cbs_core.scene.session import opened
from cbs_core.scene.splatting import Splatter
from cbs_core.scene.types import Splats
from tests import scenes
from tests.restyling import GREEN, request

FOCAL, MIDDLE, BETWEEN, SHIFT = 994.978, (311.193, 254.877), 193.001, 32.778
"""Of the left camera: pixels, pixels, millimetres to the right one, pixels."""

STEP = 4
"""Every fourth pixel of a row and of a column is a splat."""

MOTORBIKE = [
    (200, 180, 320, 205),
    (360, 195, 450, 230),
    (345, 285, 460, 355),
    (200, 315, 310, 345),
    (128, 290, 145, 345),
    (560, 275, 625, 295),
    (520, 140, 555, 180),
]
"""Boxes (left, top, right, bottom) of the photograph that show nothing but the motorbike: seat,
tank, engine, silencer, rear tyre, mudguard, headlight."""

AROUND = [(0, 0, 140, 60), (350, 0, 470, 20), (600, 200, 690, 250), (0, 320, 100, 490)]
"""And boxes that show nothing of it: two walls, boxes on the floor, the floor."""


VIOLET = np.array([0.6, 0.1, 0.9])


class Violet:
    """A styler that paints everything in another colour than `tests.restyling.Green`."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return torch.tensor(VIOLET, dtype=image.dtype)[None, :, None, None].expand_as(image)


registry.stylers.register("violet", Violet)


def photograph() -> tuple[Splats, np.ndarray]:
    """Returns the stereo photograph as splats, and row and column ``(n,2)`` of each."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    with Image.open(folder / "motorcycle_left.png") as picture:
        colours = np.array(picture.convert("RGB")) / 255
    disparity = np.load(folder / "motorcycle_disp.npz")["arr_0"]
    rows, columns = np.mgrid[: disparity.shape[0] : STEP, : disparity.shape[1] : STEP]
    known = np.isfinite(disparity[rows, columns])
    rows, columns = rows[known], columns[known]
    depth = FOCAL * BETWEEN / (disparity[rows, columns] + SHIFT) / 1000
    at = (np.stack([columns, rows], 1) - MIDDLE) / FOCAL
    count = len(depth)
    splats = Splats(
        means=np.concatenate([at * depth[:, None], depth[:, None]], 1),
        scales=np.repeat(0.7 * STEP * depth[:, None] / FOCAL, 3, 1),
        rotations=np.tile([1.0, 0, 0, 0], (count, 1)),
        opacities=np.full(count, 0.98),
        colours=colours[rows, columns],
        harmonics=np.zeros((count, 0, 3)),
    )
    return splats, np.stack([rows, columns], 1)


def beside(man: Splats, room: Splats) -> Splats:
    """Returns both, the man of 1.75 metres with his feet on the floor to the right of the room."""
    low, high = np.percentile(man.means, [0.1, 99.9], axis=0)
    scale = 1.75 / (high - low)[1]
    foot = np.array([(low + high)[0] / 2, high[1], (low + high)[2] / 2])
    means = (man.means - foot) * scale + [1.75, 0.52, 2.8]

    def joined(field: str, own: np.ndarray) -> np.ndarray:
        return np.concatenate([own, getattr(room, field)])

    return Splats(
        means=joined("means", means),
        scales=joined("scales", man.scales * scale),
        rotations=joined("rotations", man.rotations),
        opacities=joined("opacities", np.minimum(man.opacities, 0.99)),
        colours=joined("colours", man.colours),
        harmonics=joined("harmonics", man.harmonics),
    )


def views(folder: Path, count: int = 3) -> Path:
    """Writes cameras that see both from before, as nerfstudio does; the photograph has no back."""
    ball = Ball((0.6, 0.0, 2.9), 1.35, (0.0, -1.0, 0.0))
    frames = []
    size = 416
    for turn in np.linspace(-14, 14, count):
        camera = orbit(ball, turn, 4, size)
        pose = np.eye(4)
        pose[:3, :3] = camera.rotation.T * [1, -1, -1]
        pose[:3, 3] = camera.position
        frames.append({"transform_matrix": pose.tolist()})
    told = {"fl_x": camera.focal, "w": size, "h": size, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(told))
    return folder / "transforms.json"


def within(place: np.ndarray, boxes: list) -> np.ndarray:
    """Returns which pixels ``(n,2)`` lie in one of the boxes."""
    out = np.zeros(len(place), bool)
    for left, top, right, bottom in boxes:
        row, column = place.T
        out |= (row >= top) & (row < bottom) & (column >= left) & (column < right)
    return out


@pytest.mark.shared
def test_a_man_in_one_style_and_a_motorbike_in_another(shared, tmp_path) -> None:
    path = shared / "data" / "3d" / "biker.compressed.ply"
    if not path.is_file():
        pytest.skip("no data/3d in ../shared")
    man = opened(path).splats
    room, place = photograph()
    count = len(man.means)
    file = opened(scenes.splat_ply(tmp_path / "pair.ply", beside(man, room)))
    asked = request(
        segmenter={"name": "smp"},
        routes={"person": {"styler": "green"}, "motorbike": {"styler": "violet"}},
        cameras=str(views(tmp_path)),
        views=3,
        size=416,
        iterations=0,
    )
    restyled = restyle(file, asked)
    restyled.write(tmp_path / "out.ply")
    old, new = file.splats, opened(tmp_path / "out.ply").splats
    seen = sum(
        np.asarray(splatter.weights(camera).sum(0))[0]
        for splatter in [Splatter(old, torch.device("cpu"))]
        for camera in chosen(asked.cameras, restyled.ball, count=3, size=416)
    )
    shown = seen > 0.05
    touched = (new.colours != old.colours).any(1)
    # Each style is one colour, so that a splat's tells by which it was restyled.
    apart = [np.abs(new.colours - colour).sum(1) for colour in (GREEN, VIOLET)]
    style = np.where(touched, np.argmin(apart, 0), -1)
    own = np.arange(len(style)) < count
    found = {}
    for index, region in (
        (0, own),
        (1, ~own & np.append(np.zeros(count, bool), within(place, MOTORBIKE))),
        (-1, ~own & np.append(np.zeros(count, bool), within(place, AROUND))),
    ):
        told = style[region & shown]
        assert len(told) > 500
        found[index] = float((told == index).mean())
    assert min(found.values()) >= 0.95, found
    # What neither class has stays to the bit, and so does all that is no colour.
    assert np.array_equal(new.colours[~touched], old.colours[~touched])
    for field in ("means", "scales", "rotations", "opacities"):
        assert np.array_equal(getattr(new, field), getattr(old, field)), field
