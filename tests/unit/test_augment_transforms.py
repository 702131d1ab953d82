"""Style by class inside a training loop: torchvision's transforms and albumentations'."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from cbs_core.augment.transforms import Restyle
from cbs_core.contract.errors import ConfigError

ROUTES = {"road": ["wave", "udnie"]}
CLASSES = ("sky", "road")


@pytest.fixture(scope="module")
def restyle() -> Restyle:
    return Restyle(ROUTES, CLASSES)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    by = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 32, 48), dtype=torch.uint8, generator=by)


@pytest.fixture(scope="module")
def mask() -> torch.Tensor:
    labels = torch.zeros(4, 32, 48, dtype=torch.uint8)
    labels[:, 16:] = 1
    labels[:, :, :4] = 255
    return labels


def test_a_batch_is_restyled_where_its_masks_say(restyle, image, mask) -> None:
    torch.manual_seed(0)
    out, labels = restyle(tv_tensors.Image(image), tv_tensors.Mask(mask))
    assert isinstance(out, tv_tensors.Image)
    assert isinstance(labels, tv_tensors.Mask)
    assert (labels == mask).all()
    changed = (out != image).any(1)
    assert not changed[mask != 1].any()
    assert changed[mask == 1].float().mean() > 0.9


def test_a_batch_is_what_its_pictures_are_each_by_itself(restyle, image, mask) -> None:
    seeds = [3, 4, 5, 6]
    whole = restyle._restyler(image, mask, seeds)
    alone = [restyle._restyler(image[i : i + 1], mask[i : i + 1], [seeds[i]]) for i in range(4)]
    assert (whole.int() - torch.cat(alone).int()).abs().max() <= 1
    assert (restyle._restyler(image, mask, [7, 8, 9, 1]) != whole).any()


def test_ids_that_are_no_class_are_pixels_of_none(restyle, image, mask) -> None:
    ids = mask.long()
    whole = restyle._restyler(image, ids, [3] * 4)
    assert (restyle._restyler(image, ids.where(ids != 255, -100), [3] * 4) == whole).all()


def test_what_is_drawn_is_of_torchs_seed(restyle, image, mask) -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return restyle(tv_tensors.Image(image), tv_tensors.Mask(mask))[0]

    assert (drawn(1) == drawn(1)).all()
    assert any((drawn(1) != drawn(seed)).any() for seed in range(2, 8))


def test_kinds_of_pictures_come_back_as_they_are(restyle, image, mask) -> None:
    floats = tv_tensors.Image(image[0].float() / 255)
    out = restyle({"image": floats, "mask": tv_tensors.Mask(mask[0]), "name": "a"})
    assert out["name"] == "a"
    assert (out["image"].dtype, tuple(out["image"].shape)) == (torch.float32, (3, 32, 48))
    photo = Image.fromarray(image[0].permute(1, 2, 0).numpy())
    made, _ = restyle(photo, tv_tensors.Mask(mask[:1]))
    assert isinstance(made, Image.Image)
    chain = v2.Compose([v2.RandomHorizontalFlip(1), restyle])
    flipped, labels = chain(tv_tensors.Image(image[0]), tv_tensors.Mask(mask[0]))
    assert (labels == mask[0].flip(-1)).all()
    assert (flipped.flip(-1) == image[0])[:, mask[0] != 1].all()


def test_it_travels_to_other_processes(restyle, image, mask) -> None:
    again = pickle.loads(pickle.dumps(restyle))
    assert (again._restyler(image, mask, [1] * 4) == restyle._restyler(image, mask, [1] * 4)).all()


def test_what_cannot_be_restyled_is_told(restyle, image, mask) -> None:
    with pytest.raises(ConfigError, match=r"one image and one tv_tensors\.Mask"):
        restyle(tv_tensors.Image(image))
    with pytest.raises(ConfigError, match=r"\(3,H,W\) with \(H,W\)"):
        restyle(tv_tensors.Image(image[0]), tv_tensors.Mask(mask))
    with pytest.raises(ConfigError, match="names none"):
        Restyle(ROUTES)


def test_albumentations(image, mask) -> None:
    albumentations = pytest.importorskip("albumentations")
    from cbs_core.augment.albumentations import Restyle as Augmentation

    photo, labels = image[0].permute(1, 2, 0).numpy(), mask[0].numpy()
    boxes = np.array([[4.0, 4, 20, 20, 1]])
    compose = albumentations.Compose(
        [Augmentation(ROUTES, CLASSES)],
        bbox_params=albumentations.BboxParams("pascal_voc"),
        seed=3,
    )
    made = compose(image=photo, mask=labels, bboxes=boxes)
    assert (made["mask"] == labels).all()
    assert made["bboxes"] == pytest.approx(boxes, abs=1e-4)
    changed = (made["image"] != photo).any(2)
    assert made["image"].dtype == np.uint8
    assert not changed[labels != 1].any()
    assert changed[labels == 1].mean() > 0.9
    never = albumentations.Compose([Augmentation(ROUTES, CLASSES, p=0)])
    assert (never(image=photo, mask=labels)["image"] == photo).all()
    with pytest.raises(ConfigError, match="are due"):
        Augmentation(ROUTES, CLASSES)(image=photo, mask=labels[:8])
