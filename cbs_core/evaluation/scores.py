"""How good a segmenter or a styler is, on pictures it was not trained on.

Letters: ``B`` batch, ``K`` classes, ``H W`` the picture.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cbs_core.choose.registry import guarded
from cbs_core.contract.errors import PluginContractError
from cbs_core.contract.extensions import Losses
from cbs_core.contract.tensors import to_image, to_size
from cbs_core.datasets.labelled import NOT_PERSON, LabelledSet, class_map
from cbs_core.evaluation.faults import Faults
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
    """Losses of a styler (`cbs_core.contract.extensions.Losses`)."""

    pictures: int
    losses: dict[str, float]
    """Each the mean over the photographs; ``total`` is the one that is compared."""

    unstyled: dict[str, float]
    """Likewise, of the photographs themselves."""

    faults: dict[str, float]
    """What a loss does not see (`cbs_core.evaluation.faults`): ``grid_4`` and its like,
    ``border_mean`` and ``border_deviation``, each with the photographs' own as ``unstyled_NAME``,
    and ``equivariance``."""

    totals: list[float]
    """By photograph."""

    def as_dict(self) -> dict[str, Any]:
        """Returns them for a report: a loss under its name, the photographs' as ``unstyled_NAME``.

        Example:
            >>> StylerScores(1, {"total": 2.0}, {"total": 3.0}, {}, [2.0]).as_dict()
            {'pictures': 1, 'total': 2.0, 'unstyled_total': 3.0, 'totals': [2.0]}
        """
        unstyled = {f"unstyled_{name}": value for name, value in self.unstyled.items()}
        return {
            "pictures": self.pictures,
            **self.losses,
            **unstyled,
            **self.faults,
            "totals": self.totals,
        }


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
    image = _image(picture, device)
    with torch.inference_mode():
        logits = to_size(segment(image), image.shape[2:])
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
    losses: Losses,
    painting: NDArray[np.uint8],
    photos: Sequence[NDArray[np.uint8]],
    *,
    device: torch.device,
    progress: Callable[[Iterable[object]], Iterable[object]] = iter,
) -> StylerScores:
    """Scores a styler by losses, and beside it the photographs as they are.

    Args:
        style: ``(1,3,H,W)`` RGB in [0,1] -> the same.
        losses: by which; moved to the device already.
        painting: the style, RGB ``(H,W,3)``, at the scale whose brushwork is to be met.
        photos: RGB ``(H,W,3)``.
        device: where it runs.
        progress: wraps the photographs, to show how far it is.

    Raises:
        PluginContractError: the losses lack ``total``.
        PluginLoadError: the losses failed.
    """
    target = _image(painting, device)
    styled_losses, unstyled, faults = [], [], Faults()
    for photo in progress(photos):
        image = _image(photo, device)  # type: ignore[arg-type]
        with torch.inference_mode():
            styled = style(image).float()
            faults.add(style, image, styled)
        styled_losses.append(_losses(losses, styled, image, target))
        unstyled.append(_losses(losses, image, image, target))
    return StylerScores(
        pictures=len(styled_losses),
        losses=_means(styled_losses),
        unstyled=_means(unstyled),
        faults=faults.means(),
        totals=[row["total"] for row in styled_losses],
    )


def _losses(losses: Losses, styled: Tensor, photo: Tensor, painting: Tensor) -> dict[str, float]:
    found = guarded("the losses", losses, styled, photo, painting)
    if not isinstance(found, Mapping) or "total" not in found:
        raise PluginContractError("the losses must return a mapping with 'total' in it")
    return {str(name): float(value) for name, value in found.items()}


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


def _image(picture: NDArray[np.uint8], device: torch.device) -> Tensor:
    return to_image(torch.from_numpy(picture.copy()).to(device))


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
