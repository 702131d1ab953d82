"""The weights in the package, and that each does what its card says."""

import hashlib
import json
import re
from pathlib import Path

import cbs_plugins
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cbs_plugins.segmenters.dabnet import DABNetSegmenter
from cbs_plugins.segmenters.smp import SMPSegmenter
from cbs_plugins.sources.sample import sample_file
from cbs_plugins.stylers.johnson import JohnsonStyler
from PIL import Image

from cbs_core.choose.weights import SUMS, load
from cbs_core.contract.errors import WeightsKeysError

FOLDER = Path(cbs_plugins.__path__[0]) / "weights"
FILES = sorted(FOLDER.glob("*/*.safetensors"))
STYLES = sorted((FOLDER / "johnson").glob("*.safetensors"))


def picture(sample: str) -> torch.Tensor:
    pixels = np.array(Image.open(sample_file(sample)).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255


def test_they_are_there_and_small():
    names = {path.stem for path in STYLES}
    assert names >= {"starry_night", "wave", "the_scream", "composition_vii"}
    assert len(names) >= 6
    assert {path.stem for path in FILES} >= {"voc"}
    assert all(path.stat().st_size < 6_000_000 for path in FILES)
    assert sum(path.stat().st_size for path in FILES) < 40_000_000


def test_their_digests_are_written_down():
    lines = (FOLDER / SUMS).read_text().splitlines()
    assert lines == [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(FOLDER).as_posix()}"
        for path in FILES
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_header_and_card_tell_where_they_come_from(path):
    checkpoint = load(path)
    said = checkpoint.metadata
    assert said["licence"]
    assert said["date"]
    recipe = json.loads(said["recipe"])
    assert "seed" in recipe
    assert not any(str(value).startswith("/") for value in recipe.values())
    card = path.with_suffix(".md").read_text()
    assert checkpoint.file.sha256 in card
    for heading in ("**Licence**", "**Trained on**", "## Figures", "Recipe:"):
        assert heading in card


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.stem)
def test_a_styles_card_compares_it_with_an_optimisation_of_each_photograph(path):
    rows = re.findall(
        r"^\| (\d+|mean) \| (\S+) \| (\S+) \|$", path.with_suffix(".md").read_text(), re.M
    )
    values = {name: (float(ours.strip("*")), float(theirs)) for name, ours, theirs in rows}
    ours, theirs = values.pop("mean")
    assert len(values) == 20
    assert ours <= theirs
    means = np.mean([*values.values()], axis=0)
    assert means == pytest.approx((ours, theirs), rel=0.01)


def test_the_default_segmenter_comes_near_its_teacher():
    text = (FOLDER / "smp/voc.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| [\d.]+ \| ([\d.]+) \|$", text, re.M)
    assert len(rows) == 19
    of_class = {name: (float(ours), float(theirs)) for name, ours, theirs in rows}
    for name in ("person", "horse", "car"):
        ours, theirs = of_class[name]
        assert ours >= theirs - 0.03, name
    mean = re.search(r"^\| \*\*mean\*\* \| ([\d.]+) \|  \| ([\d.]+) \|$", text, re.M)
    assert mean is not None
    assert float(mean[1]) >= 0.9 * float(mean[2])


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.stem)
@torch.inference_mode()
def test_a_style_changes_a_picture_and_keeps_its_layout(path):
    image = F.interpolate(picture("astronaut"), (256, 256), mode="area")
    styled = JohnsonStyler(style=path.stem).eval()(image)
    assert styled.std() > 0.1
    assert (styled - image).abs().mean() > 0.05
    light = [F.avg_pool2d(x.mean(1, keepdim=True), 8).flatten() for x in (image, styled)]
    assert torch.corrcoef(torch.stack(light))[0, 1].abs() > 0.3


@pytest.mark.parametrize(
    ("sample", "name", "inside", "outside", "most"),
    [
        ("astronaut", "person", np.s_[60:200, 170:280], np.s_[:60, 320:400], 0.85),
        ("cat", "cat", np.s_[60:250, 100:300], np.s_[100:200, 415:450], 0.87),  # nearly fills it
        ("motorcycle", "motorcycle", np.s_[200:400, 150:450], np.s_[:100, 150:600], 0.85),
    ],
)
@torch.inference_mode()
def test_the_default_segmenter_finds_the_object_of_each_sample(sample, name, inside, outside, most):
    segmenter = SMPSegmenter().eval()
    image = picture(sample)
    labels = F.interpolate(segmenter(image), image.shape[-2:], mode="bilinear").argmax(1)[0]
    found = (labels == segmenter.classes.index(name)).float()
    assert found[inside].mean() > 0.6
    assert found[outside].mean() < 0.1
    assert 0.1 < found.mean() < most


@torch.inference_mode()
def test_dabnet_finds_the_astronaut():
    segmenter = DABNetSegmenter().eval()
    assert segmenter.classes[15] == "person"
    image = picture("astronaut")
    labels = F.interpolate(segmenter(image), image.shape[-2:], mode="bilinear").argmax(1)[0]
    assert (labels[60:200, 170:280] == 15).float().mean() > 0.6


def test_weights_of_another_net_name_the_plugin_that_takes_them():
    with pytest.raises(WeightsKeysError, match=r"than one of smp: .*: say segmenter=dabnet$"):
        SMPSegmenter(weights=str(FOLDER / "dabnet/voc.safetensors"))
    with pytest.raises(WeightsKeysError, match=r"another net than DABNet: .*, or say styler=johns"):
        DABNetSegmenter(weights=str(STYLES[0]), vocabulary="voc")
