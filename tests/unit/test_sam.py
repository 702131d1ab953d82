"""A click is a mask: SAM equal to the library's, and the thing at a point followed over frames."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from cbs_core.choose.registry import segmenters
from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import ConfigError, WeightsError
from cbs_core.contract.promptable import PointSegmenter
from cbs_core.contract.tensors import to_pixels
from cbs_core.frame.pipeline import pipeline
from cbs_core.machine import snapshot
from cbs_core.run.settings import Look
from cbs_core.run.workshop import Workshop
from cbs_core.temporal.state import State
from cbs_core.testing.helpers import picture
from tests import tiny_transformers
from tests.tiny_sam import MAKERS, save

transformers = pytest.importorskip(
    "transformers", reason="needs transformers: the extra [huggingface]"
)

from cbs_plugins.nets import sam  # noqa: E402

FAMILIES = ("sam", "sam_hq", "sam2", "sam2_video")
POINT = (41, 30)
BOXES = ((20, 11, 70, 64), (3, 3, 40, 60))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Family -> its checkpoint, made when it is first asked for."""
    return tiny_transformers.once(tmp_path_factory.mktemp("sam"), save)


def library(folder: Path, family: str, pixels, *, several: bool, **prompts):
    """What transformers makes of a picture: logits of masks ``(N,M,H,W)`` and scores ``(N,M)``."""
    name = sam.FAMILIES[family].removesuffix("Model")
    processor = getattr(transformers, f"{name}Processor").from_pretrained(folder)
    net = getattr(transformers, f"{name}Model").from_pretrained(folder).eval()
    inputs = processor(images=Image.fromarray(pixels.numpy()), return_tensors="pt", **prompts)
    for key in ("input_points", "input_boxes"):
        if key in inputs:
            inputs[key] = inputs[key].float()
    sizes = [inputs.pop("original_sizes").tolist()]
    if "reshaped_input_sizes" in inputs:
        sizes.append(inputs.pop("reshaped_input_sizes").tolist())
    out = net(**inputs, multimask_output=several)
    extra = {"pad_size": processor.image_processor.pad_size} if len(sizes) > 1 else {}
    masks = processor.image_processor.post_process_masks(
        out.pred_masks, *sizes, binarize=False, **extra
    )
    return masks[0], out.iou_scores[0]


@torch.inference_mode()
@pytest.mark.parametrize("size", [(96, 130), (150, 64), (80, 80)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_points_masks_are_the_librarys(family, size, folders):
    pixels = to_pixels(picture(*size))
    theirs, scores = library(
        folders(family), family, pixels, several=True,
        input_points=[[[[*POINT]]]] if "sam2" in family else [[[*POINT]]],
        **({"input_labels": [[[1]]]} if "sam2" in family else {}),
    )  # fmt: skip
    net, _ = sam.find(str(folders(family)), key="segmenter.model")
    image = pixels.permute(2, 0, 1)[None].float() / 255
    ours, good = net(image, points=torch.tensor([[*map(float, POINT)]]), several=True)
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(good, scores, atol=1e-4, rtol=1e-4)
    assert ((ours > 0) == (theirs > 0)).float().mean() >= 0.999
    assert 0 < (theirs > 0).float().mean() < 1


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_masks_of_boxes_are_the_librarys(family, folders):
    pixels = to_pixels(picture(96, 130))
    theirs, _ = library(
        folders(family), family, pixels, several=False, input_boxes=[[[*box] for box in BOXES]]
    )
    net, _ = sam.find(str(folders(family)), key="segmenter.model")
    image = pixels.permute(2, 0, 1)[None].float() / 255
    ours, _ = net(image, boxes=torch.tensor(BOXES, dtype=torch.float32))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_that_is_given_is_taken_where_it_lies(family, folders):
    net, _ = sam.find(str(folders(family)), key="segmenter.model")
    image, box = picture(40, 80), torch.tensor([[10.0, 5, 50, 35]])
    mask = torch.full((1, 1, 40, 80), sam.OUTSIDE)
    mask[..., :20, 40:] = -sam.OUTSIDE
    given = net._prompt(mask, image, image)
    assert given.shape == (1, 1, 16, 16)
    # Into a square: with the frame's padding below it, or stretched.
    high = slice(0, 4) if net.prepare.box(40, 80) else slice(0, 8)
    assert (given[..., high, 9:] > 0).all()
    assert (given[..., high.stop + 1 :, :] < 0).all()
    assert (given[..., :7] < 0).all()
    assert not torch.allclose(net(image, boxes=box, mask=mask)[0], net(image, boxes=box)[0])


class Red(torch.nn.Module):
    """A net that finds what is red, in place of one that was trained: within a box, or at all."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.whole = 10.0

    def forward(self, image, *, points=None, boxes=None, mask=None, several=False):
        found = (image[:, 0] - image[:, 1]) * 40 - 10
        if boxes is not None:
            self.asked.append("box")
            left, top, right, bottom = boxes[0].round().int().tolist()
            inside = torch.zeros_like(found, dtype=torch.bool)
            inside[:, max(0, top - 8) : bottom + 8, max(0, left - 8) : right + 8] = True
            found = torch.where(inside, found, -10)
            return found[:, None], torch.tensor([[0.9]])
        self.asked.append("point")
        nothing = torch.full_like(found, -10)
        whole = torch.full_like(found, self.whole)
        return torch.stack([nothing, found, whole], 1), torch.tensor([[0.1, 0.9, 0.3]])


@pytest.fixture(scope="module")
def real(folders):
    return segmenters.create("sam", model=str(folders("sam")))


@pytest.fixture
def plugin(real):
    real.net, real.mask = Red(), "best"
    real.reset()
    return real


def clip(*lefts: int, dark: bool = False):
    """Frames with a red square of 16 pixels at these columns, on a ground with texture."""
    ground = picture(64, 96) * 0.3 + 0.35
    ground = ground.mean(1, keepdim=True).repeat(1, 3, 1, 1)
    for left in lefts:
        image = torch.zeros_like(ground) if dark else ground.clone()
        if left >= 0:
            image[:, 0, 20:36, left : left + 16] = 0.9
            image[:, 1:, 20:36, left : left + 16] = 0.1
        yield image


AT = ((30.5) / 96, (28.5) / 64)


def columns(found) -> tuple[int, int]:
    """The first and the last column of the only thing."""
    (mask,) = found.masks > 0.5
    where = mask.any(0).nonzero().flatten()
    return int(where[0]), int(where[-1])


def follow(plugin, frames) -> list[tuple[int, int] | None]:
    found = []
    with torch.inference_mode():
        for image in frames:
            (one,) = plugin.instances_at(image, AT)
            found.append(columns(one) if len(one.masks) else None)
    return found


def test_a_thing_is_followed(plugin):
    lefts = (24, 28, 32, 36)
    assert follow(plugin, clip(*lefts)) == [(left, left + 15) for left in lefts]
    assert plugin.net.asked == ["point", "box", "box", "box"]


def test_after_a_cut_the_thing_waits_for_its_scene(plugin):
    frames = [*clip(24, 26), *clip(24, dark=True), *clip(28)]
    assert follow(plugin, frames) == [(24, 39), (26, 41), None, (28, 43)]
    assert plugin.net.asked == ["point", "box", "box"]


def test_what_is_hidden_comes_back(plugin):
    assert follow(plugin, clip(24, -1, 24)) == [(24, 39), None, (24, 39)]


def test_nothing_at_the_point_is_asked_again(plugin):
    plugin.net.whole = -10
    assert follow(plugin, clip(-1, 24)) == [None, (24, 39)]
    assert plugin.net.asked == ["point", "point"]


@pytest.mark.parametrize(("mask", "due"), [("largest", (0, 95)), ("smallest", (24, 39))])
def test_which_of_the_masks(mask, due, plugin):
    plugin.mask = mask
    assert follow(plugin, clip(24)) == [due]


def test_another_point_or_size_begins_anew(plugin):
    follow(plugin, clip(24))
    with torch.inference_mode():
        plugin.instances_at(next(clip(24)), (0.3, 0.4))
        plugin.instances_at(next(clip(24))[..., :80], (0.3, 0.4))
    assert plugin.net.asked == ["point"] * 3


def test_a_stream_is_gone_on_with_elsewhere(plugin):
    frames = [*clip(24, 28, 32, 36)]
    want = follow(plugin, frames)
    plugin.reset()
    follow(plugin, frames[:2])
    kept = snapshot.loads(snapshot.dumps(plugin.state()))
    plugin.reset()
    assert plugin.state() == {}
    plugin.restore(kept)
    assert follow(plugin, frames[2:]) == want[2:]


def look(folder: Path, **more) -> Look:
    return Look(
        segmenter=Choice("sam", {"model": str(folder)}),
        styler=Choice("johnson", {"style": "wave"}),
        accelerator=Choice("eager"),
        **more,
    )


@pytest.fixture(scope="module")
def workshop():
    return Workshop.on("cpu", "fp32")


def test_a_plan_follows_the_thing_that_was_clicked_on(workshop, folders):
    plan = workshop.plan(look(folders("sam"), select=(30, 28)))
    assert [route.classes for route in plan.routes] == [("object",)]
    part = next(iter(workshop._parts.values()))
    assert isinstance(part.plugin, PointSegmenter)
    part.plugin.net, state = Red(), State()
    for left, image in zip((24, 40, 56), clip(24, 40, 56), strict=True):
        result, state = pipeline(image, plan, state)
        state = State.from_bytes(state.to_bytes())
        where = result.mattes[0, 0].any(0).nonzero().flatten()
        # By leaps of the square's own width no mask overlaps the last one's.
        assert (int(where[0]), int(where[-1])) == (left, left + 15)
    rest = {"object": "none", "rest": "wave"}
    plan = workshop.plan(look(folders("sam"), select=(30, 28), routes=rest))
    result, _ = pipeline(next(clip(24)), plan, State())
    assert not result.mattes[0, 0, 20:36, 24:40].any()
    assert result.mattes[0, 0].sum() == 64 * 96 - 16 * 16


@pytest.mark.parametrize("select", [None, 1])
def test_without_a_point_it_is_told(select, workshop, folders):
    with pytest.raises(ConfigError, match="whatever lies at a point: say select=x,y"):
        workshop.plan(look(folders("sam"), select=select))


def test_a_point_outside_is_told(workshop, folders):
    plan = workshop.plan(look(folders("sam"), select=(300, 28)))
    with pytest.raises(ConfigError, match="outside the picture of 96x64"):
        pipeline(next(clip(24)), plan, State())


def test_a_smaller_picture_is_asked_at_the_same_place(workshop, folders):
    plan = workshop.plan(look(folders("sam"), select=(30, 28), segment_size=0.5))
    asked = []
    call = plan.detector.call
    object.__setattr__(
        plan.detector,
        "call",
        lambda image, point: asked.append((image.shape, point)) or call(image, point),
    )
    pipeline(next(clip(24)), plan, State())
    assert asked == [((1, 3, 32, 48), (30.5 / 96, 28.5 / 64))]


@pytest.mark.parametrize("family", ["segformer", "clipseg"])
def test_other_nets_are_refused(family, tmp_path):
    folder = tiny_transformers.save(family, tmp_path / family)
    with pytest.raises(WeightsError, match="makes no masks of points and boxes"):
        segmenters.create("sam", model=str(folder))


def test_a_wrong_mask_is_told(folders):
    with pytest.raises(ConfigError, match="did you mean 'largest'"):
        segmenters.create("sam", model=str(folders("sam")), mask="large")


def test_families_are_those_that_are_tested():
    assert {*sam.FAMILIES} == {*FAMILIES} <= {*MAKERS}
