"""How good a segmenter or a styler is, on pictures it was not trained on.

Letters: ``B`` batch, ``K`` classes, ``H W`` the picture.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cbs_core.datasets.labelled import NOT_PERSON, LabelledSet, class_map
from cbs_core.evaluation.metrics import Confusion, boundary_f, boundary_iou

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SegmenterScores:
    """All in [0,1]; the measures of `cbs_core.evaluation.metrics`."""

    pictures: int
    mean_iou: float
    """Over all classes that the truth has, whether or not the segmenter knows them."""

    mean_iou_known: float | None
    """Over those of them that the segmenter knows; equal, unless it was trained on another set."""

    pixel_accuracy: float
    iou: dict[str, float]
    """By class, for those that the truth has; of the whole set."""

    boundary_f: dict[str, float]
    """Likewise; the mean over the pictures that have the class. Empty where not measured."""

    boundary_iou: dict[str, float]
    person_where_none_is: float | None
    """Share of the pixels labelled "not a person, otherwise unknown" that were called a person;
    None where there are none. They count in no other figure."""


@dataclass(frozen=True, slots=True)
class StylerScores:
    """Gatys' losses (`cbs_plugins.nets.losses`), each a mean over the photographs."""

    pictures: int
    content: float
    style: float
    total: float
    unstyled_style: float
    """Of the photographs themselves, whose content loss is 0."""

    totals: list[float]
    """By photograph."""


def score_segmenter(
    segment: Callable[[Tensor], Tensor],
    classes: Sequence[str],
    labelled: LabelledSet,
    *,
    device: torch.device,
    boundaries: bool = True,
    progress: Callable[[Iterable[object]], Iterable[object]] = iter,
) -> SegmenterScores:
    """Scores a segmenter on a labelled set.

    Its classes are translated into the set's by name and alias
    (`cbs_core.datasets.labelled.class_map`).

    Args:
        segment: ``(1,3,H,W)`` RGB in [0,1] -> logits ``(1,K,h,w)``.
        classes: its K names.
        labelled: the set.
        device: where it runs.
        boundaries: whether to measure boundary F and boundary IoU, which takes most of the time.
        progress: wraps the pictures, to show how far it is.

    Raises:
        SourceError: a file cannot be read, or its labels are wrong.
    """
    ids = class_map(classes, labelled.classes)
    confusion = Confusion(len(labelled.classes))
    boundary: dict[int, list[tuple[float, float]]] = {}
    person = labelled.classes.index("person") if "person" in labelled.classes else -1
    no_person = wrong = 0
    for pair in progress(labelled.pairs):
        picture, truth = labelled.read(pair)  # type: ignore[arg-type]
        prediction = ids[_labels(segment, picture, device)]
        confusion.add(prediction, truth)
        if boundaries:
            for index, scores in _boundaries(prediction, truth, len(labelled.classes)):
                boundary.setdefault(index, []).append(scores)
        no_person += int(np.count_nonzero(truth == NOT_PERSON))
        wrong += int(np.count_nonzero(prediction[truth == NOT_PERSON] == person))

    iou = confusion.iou
    present = [index for index in range(len(iou)) if not np.isnan(iou[index])]
    known = [iou[index] for index in present if index in ids]
    names = labelled.classes
    return SegmenterScores(
        pictures=len(labelled.pairs),
        mean_iou=confusion.mean_iou,
        mean_iou_known=fmean(known) if known else None,
        pixel_accuracy=confusion.pixel_accuracy,
        iou={names[i]: float(iou[i]) for i in present},
        boundary_f={names[i]: fmean(f for f, _ in boundary[i]) for i in sorted(boundary)},
        boundary_iou={names[i]: fmean(b for _, b in boundary[i]) for i in sorted(boundary)},
        person_where_none_is=wrong / no_person if no_person and person >= 0 else None,
    )


def _labels(
    segment: Callable[[Tensor], Tensor], picture: NDArray[np.uint8], device: torch.device
) -> Ids:
    """Returns the channel of the largest logit at each pixel, resized as the product does it."""
    image = torch.from_numpy(picture).to(device).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        logits = torch.nn.functional.interpolate(
            segment(image), image.shape[2:], mode="bilinear", align_corners=False
        )
        labels: Ids = logits.argmax(1)[0].cpu().numpy()
    return labels


def _boundaries(
    prediction: Ids, truth: NDArray[np.uint8], classes: int
) -> Iterator[tuple[int, tuple[float, float]]]:
    """Yields boundary F and boundary IoU of each class in the truth, outside ignored pixels."""
    valid = truth < classes
    for index in np.unique(truth[valid]).tolist():
        ours, theirs = (prediction == index) & valid, truth == index
        yield index, (boundary_f(ours, theirs), boundary_iou(ours, theirs))


def score_styler(
    style: Callable[[Tensor], Tensor],
    painting: NDArray[np.uint8],
    photos: Sequence[NDArray[np.uint8]],
    *,
    device: torch.device,
    progress: Callable[[Iterable[object]], Iterable[object]] = iter,
) -> StylerScores:
    """Scores a styler by the objective of Gatys et al. with its usual weights (1 and 1000).

    Args:
        style: ``(1,3,H,W)`` RGB in [0,1] -> the same.
        painting: the style, RGB ``(H,W,3)``, at the scale whose brushwork is to be met.
        photos: RGB ``(H,W,3)``, each side at least 16 pixels.
        device: where it runs.
        progress: wraps the photographs, to show how far it is.

    Raises:
        PluginLoadError: VGG-19's weights are not installed.
    """
    # Built-in plugins are imported only where a styler is scored.
    from cbs_plugins.nets.losses import LAYERS, GatysLoss
    from cbs_plugins.nets.vgg import VGG19

    vgg = VGG19(LAYERS).to(device)
    target = _pixels(painting, device)
    rows = []
    for photo in progress(photos):
        image = _pixels(photo, device)  # type: ignore[arg-type]
        with torch.inference_mode():
            loss = GatysLoss(vgg, image, target)
            styled = loss.terms(style(image / 255).float() * 255)
            before = loss.terms(image)
            total = loss.content_weight * styled.content + loss.style_weight * styled.style
        rows.append([float(v) for v in (styled.content, styled.style, total, before.style)])
    content, of_style, totals, unstyled = map(list, zip(*rows, strict=True))
    return StylerScores(
        pictures=len(rows),
        content=fmean(content),
        style=fmean(of_style),
        total=fmean(totals),
        unstyled_style=fmean(unstyled),
        totals=totals,
    )


def _pixels(picture: NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(picture.copy()).to(device).permute(2, 0, 1)[None].float()


def squared(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Returns the middle square of a picture, resized: RGB ``(side,side,3)``."""
    image = Image.fromarray(picture)
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    return np.array(image.resize((side, side), Image.Resampling.BICUBIC, box))


def of_area(picture: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Returns a whole picture of about so many pixels, RGB ``(H,W,3)``.

    A painting is learnt at the photograph's area, so that is the scale to judge brushwork at.
    """
    image = Image.fromarray(picture)
    factor = (pixels / (image.width * image.height)) ** 0.5
    size = (max(16, round(image.width * factor)), max(16, round(image.height * factor)))
    return np.array(image.resize(size, Image.Resampling.BICUBIC))
