"""Mattes against straight references, in float64 where rounding could hide an error."""

import pytest
import torch
import torch.nn.functional as F

from cbs_core.contract.errors import ConfigError
from cbs_core.frame.mattes import Regions
from cbs_core.frame.wanted import MATTES
from tests.unit.straight_line import spread

CLASSES = ("road", "car", "person", "sky")
SIZES = [(48, 64), (65, 131), (1, 1), (5, 9)]


def logits(height=9, width=17, batch=2):
    generator = torch.Generator().manual_seed(0)
    return 4 * torch.randn(batch, len(CLASSES), height, width, generator=generator)


def upsampled(tensor, size):
    return F.interpolate(tensor, size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("size", SIZES)
def test_argmax_is_the_argmax_of_the_full_size_logits(size):
    want = upsampled(logits(), size).argmax(1)
    regions = Regions(CLASSES, [["car"], ["sky", "person"]])
    mattes = regions(logits(), size)
    assert mattes.shape == (2, 2, *size)
    assert torch.equal(mattes[:, 0], (want == 1).float())
    assert torch.equal(mattes[:, 1], ((want == 3) | (want == 2)).float())
    assert torch.equal(regions.labels(logits(), size), want)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [(64, 96), (65, 131), (19, 34), (4, 300)])
def test_hard_mattes_are_the_labels_whatever_the_edges(seed, size):
    """Smooth and rough logits, enlarged and reduced; a tie within rounding may go either way."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(2, len(CLASSES), 3 + seed, 4, generator=generator)
    rough = 0.3 * (seed % 3) * torch.randn(2, len(CLASSES), 12, 17, generator=generator)
    given = 3 * F.interpolate(coarse, (12, 17), mode="bicubic") + rough
    regions = Regions(CLASSES, [["car"], ["sky", "person"]])
    labels = upsampled(given, size).argmax(1)
    want = torch.stack([labels == 1, (labels == 3) | (labels == 2)], 1).float()
    best = upsampled(given.double(), size).topk(2, dim=1).values
    clear = (best[:, 0] - best[:, 1] > 1e-5)[:, None].expand_as(want)
    assert clear.float().mean() > 0.999
    assert torch.equal(regions(given, size)[clear], want[clear])


def test_argmax_agrees_with_float64_wherever_the_two_best_are_apart():
    size = (65, 131)
    exact = upsampled(logits().double(), size)
    best = exact.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > 1e-4
    assert clear.float().mean() > 0.99
    labels = Regions(CLASSES, [["car"]]).labels(logits(), size)
    assert torch.equal(labels[clear], exact.argmax(1)[clear])


def test_a_tie_goes_to_the_first_class():
    flat = torch.zeros(1, 4, 6, 8)
    flat[:, 1:3] = 1
    assert (Regions(CLASSES, [["car"]]).labels(flat, (48, 64)) == 1).all()


@pytest.mark.parametrize("size", SIZES)
def test_soft_is_the_upsampled_softmax_near_the_hard_matte_in_float64(size):
    scores = logits().double().softmax(1)
    want = upsampled(torch.stack([scores[:, 1], scores[:, 2] + scores[:, 3]], 1), size)
    labels = upsampled(logits().double(), size).argmax(1, keepdim=True)
    near = torch.stack([spread(m.double(), size) for m in (labels == 1, labels >= 2)], 1)
    whole = want.sum(1, keepdim=True) * spread((labels >= 1).double(), size)[:, None]
    cut = want * near
    want = torch.where(cut > 0, cut / cut.sum(1, keepdim=True) * whole, 0)
    mattes = Regions(CLASSES, [["car"], ["person", "sky"]], "soft")(logits(), size)
    torch.testing.assert_close(mattes.double(), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", MATTES)
def test_routes_of_all_classes_leave_no_hole(mode):
    mattes = Regions(CLASSES, [["car"], ["person"], ["sky", "road"]], mode)(logits(), (65, 131))
    torch.testing.assert_close(mattes.sum(1), torch.ones(2, 65, 131))


@pytest.mark.parametrize("cell", [1, 3, 8])
def test_a_soft_edge_ends(cell):
    """Nothing 12 pixels and more from the hard matte, whatever the net thinks possible there."""
    given = torch.full((1, 4, 160 // cell, 160 // cell), -3.0)
    given[:, 0] = 0.2
    given[:, 1] = 0.0  # nearly as likely as the road, everywhere
    given[..., 80 // cell :, : 40 // cell] = torch.tensor([0.0, 1.0, 0, 0])[:, None, None]
    hard, soft = (Regions(CLASSES, [["car"]], mode)(given, (160, 160))[0, 0] for mode in MATTES)
    y, x = (hard > 0).nonzero(as_tuple=True)
    places = torch.stack(torch.meshgrid(torch.arange(160), torch.arange(160), indexing="ij"), -1)
    away = torch.cdist(places.view(-1, 2).float(), torch.stack([y, x], 1).float()).amin(1)
    away = away.view(160, 160)
    assert soft[away >= 12].max() == 0
    assert soft[(away > 0) & (away < 2)].min() > 0.2  # and it is an edge
    steps = torch.cat([soft.diff(dim=0).abs().flatten(), soft.diff(dim=1).abs().flatten()])
    assert steps.max() < (0.3 if cell == 1 else 0.15)


@pytest.mark.parametrize("mode", MATTES)
def test_mattes_never_sum_past_one(mode):
    routes = [["car", "road"], ["car", "person"], ["sky", "car"], ["road"]]
    mattes = Regions(CLASSES, routes, mode)(logits(), (65, 131))
    assert mattes.min() >= 0
    assert mattes.sum(1).max() <= 1 + 1e-6


@pytest.mark.parametrize("mode", MATTES)
def test_a_class_of_two_routes_is_shared_evenly(mode):
    size = (48, 64)
    alone = Regions(CLASSES, [["car"], ["sky"]], mode)(logits(), size)
    shared = Regions(CLASSES, [["car"], ["car", "sky"]], mode)(logits(), size)
    torch.testing.assert_close(shared.sum(1), alone.sum(1))
    hard = Regions(CLASSES, [["car"], ["sky"]])(logits(), size)
    near = [spread(one, size) > 1 - 1e-6 for one in hard.split(1, dim=1)]
    both = near[0] & near[1]  # where no edge has begun to end
    assert both.float().mean() > 0.1
    torch.testing.assert_close(shared[:, 0][both], alone[:, 0][both] / 2)
    torch.testing.assert_close(shared[:, 1][both], (alone[:, 0] / 2 + alone[:, 1])[both])


@pytest.mark.parametrize("mode", MATTES)
def test_no_route_gives_no_matte(mode):
    assert Regions(CLASSES, [], mode)(logits(), (48, 64)).shape == (2, 0, 48, 64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("mode", MATTES)
def test_mattes_are_float32_whatever_the_logits(mode, dtype):
    assert Regions(CLASSES, [["car"]], mode)(logits().to(dtype), (8, 8)).dtype == torch.float32


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match=r"no matte 'sofd'; did you mean 'soft'\? \(there are: a"):
        Regions(CLASSES, [["car"]], "sofd")
