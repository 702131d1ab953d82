"""Windows cover every place where a style shows, whatever the matte, and cost little."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, gaussian_filter

from cbs_core.frame import windows
from cbs_core.frame.windows import CELL, INVISIBLE, STEP, Box, Planner, batches, occupancy

SIZES = [(512, 1024), (243, 517), (64, 96), (7, 300), (1, 1)]


def blobs(size, seed, share=0.1):
    """A matte of a few smooth blobs and lone pixels, (1,1,H,W)."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal(size), min(size) / 12)
    matte = field >= np.quantile(field, 1 - share)
    matte |= rng.random(size) < 2 / (size[0] * size[1])
    return torch.from_numpy(matte)[None, None].float()


HALO = 56


def plan(matte, *, halo=HALO, align=4, reach=0):
    height, width = matte.shape[-2:]
    planner = Planner(height, width, halo=halo, align=align, reach=reach)
    cells = (occupancy(matte) > INVISIBLE)[:, 0].numpy()
    return planner(cells)


def area(found):
    return sum(w.outer.height * w.outer.width for w in found)


def filled(boxes, size):
    out = np.zeros(size, bool)
    for box in boxes:
        box.of(out)[...] = True
    return out


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(8))
def test_cores_hold_the_matte_and_its_reach_and_outers_the_halo(size, seed):
    reach, halo = (0, 9, 20)[seed % 3], (56, 16, 0)[seed % 3]
    matte = blobs(size, seed, share=(0.02, 0.1, 0.5)[seed % 3])
    found = plan(matte, halo=halo, reach=reach)
    near = matte[0, 0].bool().numpy()
    if reach:
        near = binary_dilation(near, np.ones((3, 3)), iterations=reach)
    assert not (near & ~filled([w.core for w in found], size)).any()
    for w in found:
        for start, length, core, core_length, total in (
            (w.outer.top, w.outer.height, w.core.top, w.core.height, size[0]),
            (w.outer.left, w.outer.width, w.core.left, w.core.width, size[1]),
        ):
            assert start % 4 == 0
            assert (length - total) % 4 == 0
            assert 0 <= start <= max(0, core - halo)
            assert min(total, core + core_length + halo) <= start + length <= total
            assert length == total or (length - total % 4) % STEP == 0


def test_no_matte_gives_no_window():
    assert plan(torch.zeros(2, 1, 64, 96)) == []


def test_a_matte_too_faint_to_be_seen_gives_no_window():
    assert plan(torch.full((1, 1, 64, 96), INVISIBLE)) == []
    assert plan(torch.full((1, 1, 64, 96), 2 * INVISIBLE))


def test_two_objects_far_apart_give_two_windows():
    matte = torch.zeros(1, 1, 512, 1024)
    matte[..., 64:224, 64:224] = 1
    matte[..., 296:456, 704:864] = 1
    found = plan(matte)
    assert len(found) == 2
    assert area(found) < 0.4 * 512 * 1024
    assert len(list(batches(found))) == 1, "they are of one size and styled at once"


def test_two_objects_close_together_give_one_window():
    matte = torch.zeros(1, 1, 512, 1024)
    matte[..., 200:300, 300:400] = 1
    matte[..., 200:300, 420:520] = 1
    assert len(plan(matte)) == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_matte_everywhere_gives_the_whole_frame(seed):
    matte = blobs((512, 1024), seed, share=0.97)
    (found,) = plan(matte)
    assert found.outer == Box(0, 0, 512, 1024)


@pytest.mark.parametrize("seed", range(6))
def test_windows_never_cost_more_than_the_frame_or_the_box_around_all(seed):
    matte = blobs((512, 1024), seed, share=0.03)
    found = plan(matte)
    rows, columns = (np.flatnonzero(matte[0, 0].numpy().any(axis)) for axis in (1, 0))
    around = torch.zeros_like(matte)
    around[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 1
    assert area(found) <= min(area(plan(around)), 512 * 1024)


def test_a_bent_object_is_cut_in_two():
    matte = torch.zeros(1, 1, 1024, 2048)
    matte[..., :1000, 40:100] = 1
    matte[..., 900:1000, 40:1900] = 1
    assert len(plan(matte)) == 2


def test_an_object_that_grows_needs_few_sizes_none_much_too_large():
    line = windows.Line(2048, halo=HALO, align=4, reach=0)
    wanted = [8 * cells + 2 * HALO for cells in range(1, 200)]
    lengths = [int(line.length(20, 20 + cells)) for cells in range(1, 200)]
    assert all(
        need <= length <= 1.2 * need + STEP for need, length in zip(wanted, lengths, strict=True)
    )
    assert len(set(lengths)) <= 20


def test_batches_are_of_one_size_each_and_lose_no_window():
    rng = np.random.default_rng(0)
    found = [
        windows.Window(i, Box(0, 0, 1, 1), Box(0, 0, int(h), 32))
        for i, h in enumerate(rng.choice([32, 64, 96], 23))
    ]
    groups = list(batches(found))
    assert sorted(w.frame for group in groups for w in group) == list(range(23))
    for group in groups:
        assert len({w.outer.size for w in group}) == 1
        assert len(group) in (1, 2, 4)
    assert len(groups[0]) == 4


def test_windows_of_a_batch_name_their_frame():
    matte = torch.zeros(3, 1, 128, 128)
    matte[2, :, 10:20, 10:20] = 1
    assert [w.frame for w in plan(matte)] == [2]


def test_a_box_is_a_view_of_its_part():
    picture = torch.arange(20.0).view(1, 4, 5)
    part = Box(1, 2, 2, 3).of(picture)
    assert part.tolist() == [[[7, 8, 9], [12, 13, 14]]]
    part.zero_()
    assert picture.sum() == sum(range(20)) - sum((7, 8, 9, 12, 13, 14))
    assert Box(5, 6, 1, 2).within(Box(4, 4, 8, 8)) == Box(1, 2, 1, 2)


def test_occupancy_keeps_the_last_partial_cells():
    matte = torch.zeros(1, 2, CELL + 1, 2 * CELL)
    matte[0, 1, CELL, -1] = 0.5
    want = torch.zeros(1, 2, 2, 2)
    want[0, 1, 1, 1] = 0.5
    assert torch.equal(occupancy(matte), want)
