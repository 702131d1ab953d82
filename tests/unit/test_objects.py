"""Objects: how they are found, which one is chosen, and that it stays the same one."""

import numpy as np
import pytest
import torch

from cbs_core.contract.errors import ConfigError, PluginContractError
from cbs_core.contract.types import Instances
from cbs_core.frame.mattes import Regions
from cbs_core.frame.routes import Route
from cbs_core.frame.stage import Stage
from cbs_core.machine.meter import Meter
from cbs_core.temporal import objects
from cbs_core.temporal.objects import Followed, Objects, Selection, follow
from cbs_core.temporal.wanted import parse_select
from tests.streams import stream_of

SIZE = (40, 60)
ROAD, CAR, PERSON = range(3)
ROUTE_OF = (-1, 0, 1)
"""Cars are on route 0, persons on route 1."""


def class_map(*boxes):
    """``(H,W)`` of road with boxes ``(class, left, top, width, height)``."""
    labels = torch.zeros(SIZE, dtype=torch.int64)
    for index, left, top, width, height in boxes:
        labels[top : top + height, left : left + width] = index
    return labels


def box(left, top, width, height):
    return class_map((1, left, top, width, height)).numpy() == 1


def found(*boxes):
    return objects.components(class_map(*boxes), ROUTE_OF)


def mattes_of(labels):
    return torch.stack([labels == CAR, labels == PERSON]).float()[None]


def select(wanted, *frames):
    """Which pixels each frame's selection keeps, bool ``(H,W)``, and the object followed."""
    selection, kept, followed = Selection(wanted, ROUTE_OF, soft=False), [], Followed()
    for boxes in frames:
        mattes = mattes_of(class_map(*boxes))
        matte, followed = follow(selection, followed, mattes, [found(*boxes)])
        kept.append(matte[0].amax(0).numpy() > 0)
    return kept, followed


def selected(selection, mattes, whole):
    """The mattes of the first frame of a stream, ``(1,R,H,W)``."""
    return follow(selection, Followed(), mattes, [whole])[0]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (None, None),
        ("all", None),
        ("largest", 1),
        (3, 3),
        ("3", 3),
        ("320,200", (320, 200)),
        ("-5, 10", (-5, 10)),
        ([320, 200], (320, 200)),
    ],
)
def test_what_select_may_be(spec, wanted):
    assert parse_select(spec) == wanted


@pytest.mark.parametrize(
    "spec",
    ["foo", 0, -1, "", True, 1.5, [1], [1, 2, 3], "1,x", [1.5, 2], {}, "9" * 99, f"{'9' * 99},1"],
)
def test_nonsense_is_one_line_with_the_forms(spec):
    with pytest.raises(ConfigError, match=r"none of all, largest, .*select=320,200") as error:
        parse_select(spec)
    assert "\n" not in str(error.value)


def test_components_are_told_apart_by_class_and_joined_over_corners():
    whole = found(
        (CAR, 0, 0, 10, 10), (CAR, 10, 10, 5, 5), (PERSON, 10, 0, 5, 10), (CAR, 40, 0, 9, 9)
    )
    numbers = whole.numbers
    assert numbers[0, 0] == numbers[12, 12] != 0
    assert len({int(numbers[0, 0]), int(numbers[0, 12]), int(numbers[0, 44]), 0}) == 4
    assert [whole.routes[numbers[at]] for at in [(0, 0), (0, 12), (0, 44), (30, 30)]] == [
        0,
        1,
        0,
        -1,
    ]
    assert [int(whole.areas()[n]) for n in whole.by_size()] == [125, 81, 50]


def test_classes_on_no_route_and_specks_are_no_objects():
    speck = max(1, int(objects.SPECK * 200 * 300) - 1)
    labels = torch.zeros(200, 300, dtype=torch.int64)
    labels[5, 5 : 5 + speck] = CAR
    assert objects.components(labels, ROUTE_OF).by_size() == []
    labels[6, 5 : 5 + speck] = CAR
    assert len(objects.components(labels, ROUTE_OF).by_size()) == 1
    assert objects.components(labels, (-1, -1, 0)).by_size() == []


def test_overlap_is_intersection_over_union():
    whole = found((CAR, 0, 0, 10, 10), (CAR, 20, 0, 10, 10))
    number = whole.numbers[0, 0]
    overlaps = whole.overlaps(box(5, 0, 10, 10))
    assert overlaps[number] == pytest.approx(50 / 150)
    assert overlaps[whole.numbers[0, 25]] == 0


def instances(*boxes, strength=0.9):
    masks = [torch.from_numpy(box(*sides)).float() * strength for _, *sides in boxes]
    classes = torch.tensor([index for index, *_ in boxes], dtype=torch.int64)
    stacked = torch.stack(masks) if masks else torch.zeros(0, *SIZE)
    return Instances(stacked, classes, torch.ones(len(boxes)))


def test_touching_instances_are_two_objects_and_the_surer_mask_has_the_pixel():
    both = instances((CAR, 0, 0, 20, 10), (CAR, 15, 0, 20, 10))
    both.masks[1] *= 1.1
    numbers = objects.instances(both, ROUTE_OF).numbers
    assert numbers[0, 14] == 1
    assert numbers[0, 15] == numbers[0, 34] == 2
    assert numbers[0, 35] == 0


@pytest.mark.parametrize("boxes", [[], [(PERSON, 0, 0, 5, 5)]])
def test_instances_on_no_route_are_no_objects(boxes):
    assert objects.instances(instances(*boxes), (-1, 0, -1)).by_size() == []


def test_logits_are_the_masks_as_probabilities():
    one = instances((CAR, 0, 0, 20, 10), (CAR, 10, 0, 20, 10), strength=0.8)
    one.masks[1] *= 0.5
    probability = objects.logits([one, instances()], 3).softmax(1)
    assert probability.shape == (2, 3, *SIZE)
    assert probability[0, CAR, 0, [0, 15, 25, 35]].tolist() == pytest.approx(
        [0.8, 0.8, 0.4, 0], abs=1e-6
    )
    assert probability[0, ROAD, 0, [0, 15, 25, 35]].tolist() == pytest.approx([0.2, 0.2, 0.6, 1])
    assert probability[1, ROAD].min() == pytest.approx(1)


def test_instances_are_validated():
    with pytest.raises(ValueError, match=r"masks must be float \(N, H, W\), not bool\(1, 4, 4\)"):
        Instances(torch.ones(1, 4, 4, dtype=torch.bool), torch.ones(1).long(), torch.ones(1))
    with pytest.raises(ValueError, match=r"classes must be int64 \(1,\)"):
        Instances(torch.ones(1, 4, 4), torch.ones(2).long(), torch.ones(1))
    with pytest.raises(ValueError, match=r"scores must be float \(1,\)"):
        Instances(torch.ones(1, 4, 4), torch.ones(1).long(), torch.ones(1).long())


TWO = ((CAR, 0, 0, 10, 10), (CAR, 30, 20, 20, 15))


@pytest.mark.parametrize(
    ("wanted", "kept"), [(1, TWO[1]), (2, TWO[0]), ((3, 4), TWO[0]), ((49, 34), TWO[1])]
)
def test_the_object_chosen(wanted, kept):
    (mask,), selection = select(wanted, TWO)
    assert np.array_equal(mask, box(*kept[1:]))
    assert selection.frames_without == 0
    assert selection.most == 2


@pytest.mark.parametrize("wanted", [3, (20, 5), (59, 39)])
def test_a_selection_with_no_object_keeps_nothing_and_is_counted(wanted):
    (mask,), selection = select(wanted, TWO)
    assert not mask.any()
    assert selection.frames_without == 1


@pytest.mark.parametrize("point", [(60, 0), (0, 40), (-1, 0), (0, -1)])
def test_a_point_outside_tells_the_pictures_size(point):
    with pytest.raises(ConfigError, match=r"outside the picture of 60x40: give x in 0..59 and y"):
        select(point, TWO)


def test_frames_are_tried_until_there_is_an_object():
    kept, selection = select((5, 5), (), ((CAR, 20, 0, 9, 9),), ((CAR, 0, 0, 9, 9),), ())
    assert [mask.any() for mask in kept] == [False, False, True, False]
    assert selection.frames_without == 3


def test_one_chosen_car_stays_chosen():
    """It passes a person and shrinks below the other car, which is numbered before it."""
    frames = [
        ((CAR, 2 * t, 20, 16 - t, 10), (CAR, 40, 0, 11, 11), (PERSON, 12, 26, 3, 12))
        for t in range(8)
    ]
    kept, selection = select(1, *frames)
    for mask, boxes in zip(kept, frames, strict=True):
        assert np.array_equal(mask, (class_map(*boxes).numpy() == CAR) & box(*boxes[0][1:]))
    assert selection.frames_without == 0


def test_a_lost_object_waits_for_its_last_mask_to_be_met_again():
    car, other = (CAR, 0, 0, 12, 12), (CAR, 30, 20, 20, 15)
    kept, selection = select(
        (1, 1),
        (car, other),
        (other,),
        (other, (PERSON, 0, 0, 12, 12)),
        (other, (CAR, 3, 0, 12, 12)),
    )
    assert [mask.any() for mask in kept] == [True, False, False, True]
    assert np.array_equal(kept[3], box(3, 0, 12, 12))
    assert selection.frames_without == 2


def test_a_slight_touch_is_not_the_same_object():
    kept, _ = select((1, 1), ((CAR, 0, 0, 12, 12),), ((CAR, 11, 0, 12, 12),))
    assert not kept[1].any()


def test_another_selection_begins_anew():
    _, followed = select(1, TWO, ())
    assert followed.frames_without == 1
    boxes = ((CAR, 50, 0, 9, 9),)
    mattes = mattes_of(class_map(*boxes))
    other = Selection(1, ROUTE_OF, soft=True)
    kept, followed = follow(other, followed, mattes, [found(*boxes)])
    assert (followed.frames_without, followed.most) == (0, 1)
    assert kept.any()


def test_it_is_followed_on_from_where_it_was_kept():
    (whole, *_), _ = select(1, TWO, TWO)
    _, followed = select(1, TWO)
    again = Followed.restore(followed.state())
    kept, _ = follow(
        Selection(1, ROUTE_OF, soft=False), again, mattes_of(class_map(*TWO)), [found(*TWO)]
    )
    assert np.array_equal(kept[0].amax(0).numpy() > 0, whole)


def test_a_frame_of_another_size_begins_anew():
    _, selection = select(1, TWO)
    labels = class_map((CAR, 0, 25, 5, 5))[:30]
    whole = objects.components(labels, ROUTE_OF)
    kept, _ = follow(selection.selection, selection, mattes_of(labels), [whole])
    assert kept[0, 0].sum() == 25


def test_only_the_objects_own_route_is_kept():
    mattes = torch.full((1, 2, *SIZE), 0.5)
    selection = Selection((1, 1), ROUTE_OF, soft=False)
    kept = selected(selection, mattes, found((CAR, 0, 0, 9, 9), (PERSON, 9, 0, 9, 9)))
    assert kept[0, 0].sum() == 0.5 * 81
    assert not kept[0, 1].any()


def soft_discs(*centres, size=(80, 160), radius=16):
    """A matte with soft edges 8 pixels wide, ``(H,W)``."""
    rows, columns = torch.meshgrid(*map(torch.arange, map(float, size)), indexing="ij")
    distance = torch.stack([torch.hypot(columns - x, rows - y) for x, y in centres]).amin(0)
    return ((radius + 4 - distance) / 8).clamp(0, 1)


def test_the_soft_edge_of_the_object_is_kept_and_the_others_is_not():
    matte = soft_discs((40, 40), (110, 40))
    whole = objects.components((matte >= 0.5).long(), ROUTE_OF)
    selection = Selection((40, 40), ROUTE_OF, soft=True)
    kept = selected(selection, torch.stack([matte, matte])[None], whole)[0]
    assert torch.equal(kept[0], soft_discs((40, 40)))
    assert not kept[1].any()


def test_soft_edges_that_meet_are_shared_by_nearness():
    matte = soft_discs((40, 40), (75, 40))
    whole = objects.components((matte >= 0.5).long(), ROUTE_OF)
    parts = [
        selected(Selection(point, ROUTE_OF, soft=True), matte.expand(1, 2, -1, -1), whole)[0, 0]
        for point in [(40, 40), (75, 40)]
    ]
    assert not ((parts[0] > 0) & (parts[1] > 0)).any()
    torch.testing.assert_close(parts[0] + parts[1], matte)


def test_a_soft_matte_far_from_the_object_is_not_its_edge():
    matte = soft_discs((40, 40)) + 0.4 * soft_discs((120, 40))
    whole = objects.components((matte >= 0.5).long(), ROUTE_OF)
    kept = selected(Selection(1, ROUTE_OF, soft=True), matte.expand(1, 2, -1, -1), whole)[0, 0]
    torch.testing.assert_close(kept, soft_discs((40, 40)))


def test_the_territory_is_that_of_a_search_over_the_whole_frame():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (9, 15), generator=generator)
    labels = labels.repeat_interleave(20, 0).repeat_interleave(20, 1)
    whole = objects.components(labels, ROUTE_OF)
    number = whole.by_size()[-1]
    height, width = labels.shape
    own = whole.routes[whole.numbers] == whole.routes[number]
    sources = np.argwhere(own)
    reach = max(objects.MIN_EDGE, objects.EDGE * np.hypot(height, width))
    territory = whole.territory(number)
    for y, x in np.random.default_rng(0).integers(0, (height, width), (300, 2)):
        distances = np.hypot(*(sources - (y, x)).T)
        nearest = sources[np.isclose(distances, distances.min())]
        numbers = {int(whole.numbers[tuple(at)]) for at in nearest}
        if len(numbers) == 1:  # a tie may go either way
            assert territory[y, x] == (numbers == {number} and distances.min() <= reach)


def pipeline(*, wanted=None, detect=None, mode="argmax", calls=None):
    routes = (Route(("car",), "negative"), Route(("person",), "swap"))
    calls = [] if calls is None else calls

    def segment(image):
        calls.append("segment")
        labels = class_map(*TWO, (PERSON, 20, 30, 6, 6))
        return 200 * torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1)[None].float()

    def style(name):
        return lambda image: calls.append(name) or 1 - image

    return stream_of(
        segmenter=Stage(segment, "segmenter 'boxes' of cbs-boxes 1.0"),
        stylers={route.style: Stage(style(route.styler), "styler") for route in routes},
        compositor=Stage(torch.lerp, "compositor"),
        regions=Regions(("road", "car", "person"), [route.classes for route in routes], mode),
        routes=routes,
        device=torch.device("cpu"),
        detector=detect and Stage(detect, "segmenter 'boxes' of cbs-boxes 1.0"),
        selection=wanted and Selection(wanted, ROUTE_OF, soft=mode == "soft"),
    )


@pytest.mark.parametrize("mode", ["argmax", "soft"])
def test_the_pipeline_restyles_the_object_and_runs_only_its_style(mode):
    calls = []
    image = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    result = pipeline(wanted=(3, 4), mode=mode, calls=calls)(image)
    assert calls == ["segment", "negative"]
    assert result.shown == (True, False)
    changed = (result.image != image).any(1)[0].numpy()
    assert np.array_equal(changed, box(*TWO[0][1:]))


def test_an_absent_object_leaves_the_picture_and_runs_no_style():
    calls = []
    image = torch.rand(1, 3, *SIZE)
    restyle = pipeline(wanted=(20, 2), calls=calls)
    result = restyle(image)
    assert calls == ["segment"]
    assert torch.equal(result.image, image)
    assert restyle.state.styling.followed.frames_without == 1


@pytest.mark.parametrize(("wanted", "stages"), [(None, []), (1, ["select"])])
def test_selecting_is_a_stage_of_its_own_and_only_where_it_is_done(wanted, stages):
    meter = Meter()
    pipeline(wanted=wanted)(torch.rand(1, 3, *SIZE), meter=meter)
    assert list(meter.latencies()) == ["segment", "matte", *stages, "style", "composite"]


def test_a_detector_runs_in_the_segmenters_place_and_parts_what_touches():
    calls = []
    cars = instances((CAR, 0, 0, 20, 10), (CAR, 20, 0, 20, 10))
    restyle = pipeline(wanted=(25, 5), detect=lambda image: [cars], calls=calls)
    result = restyle(torch.rand(1, 3, *SIZE))
    assert calls == ["negative"]
    assert result.logits.shape == (1, 3, *SIZE)
    assert np.array_equal(result.mattes[0, 0].numpy() > 0, box(20, 0, 20, 10))


@pytest.mark.parametrize(
    "returned",
    [[], [1], None, [Instances(torch.zeros(0, 3, 3), torch.zeros(0).long(), torch.zeros(0))]],
)
def test_a_detector_that_breaks_its_contract_is_named(returned):
    restyle = pipeline(wanted=1, detect=lambda image: returned)
    with pytest.raises(PluginContractError, match=r"'boxes' of cbs-boxes .* list of 1 Instances"):
        restyle(torch.rand(1, 3, *SIZE))


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (instances((3, 0, 0, 9, 9)), r"classes \[3\] where 1\.\.2 are due"),
        (instances((0, 0, 0, 9, 9)), r"classes \[0\] where"),
        (instances((CAR, 0, 0, 9, 9), strength=7), r"from 0 to 7 where masks in \[0,1\]"),
    ],
)
def test_objects_of_no_class_and_masks_that_are_none_are_told(returned, told):
    restyle = pipeline(wanted=1, detect=lambda image: [returned])
    with pytest.raises(PluginContractError, match=f"'boxes' of cbs-boxes .*{told}"):
        restyle(torch.rand(1, 3, *SIZE))


def test_the_map_of_a_frame_without_objects():
    empty = Objects(np.zeros(SIZE, dtype=int), np.array([-1]))
    assert empty.by_size() == []
    assert empty.areas().tolist() == [SIZE[0] * SIZE[1]]
