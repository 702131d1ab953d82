"""Training of segmenters: DABNet's recipe, with a teacher's soft labels where one is named.

Source: Li et al. 2019 (1907.11357, section 4.1) and its code: class weights or hard example
mining, the poly schedule with warm-up, random scale, flip and crop.

Letters: ``B`` batch, ``K`` classes, ``H W`` the crop, ``h w`` a net's output.
"""

import copy
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.optim.swa_utils import AveragedModel

from cbs_core.choose import registry
from cbs_core.choose.sections import split as split_section
from cbs_core.choose.weights import Checkpoint, load, load_into
from cbs_core.contract.errors import CbsError, ConfigError, closest
from cbs_core.datasets.labelled import IGNORE, LabelledSet, Pair, class_map, find, read_rgb
from cbs_core.datasets.samples import Samples, Shuffled, find_photos, log, prefetch
from cbs_core.evaluation.scores import score_segmenter
from cbs_core.words import vocabularies
from cbs_plugins.nets.backbones import PaddedSegmenter, said_rgb
from cbs_plugins.training.augmentation import (
    SOFT_STRIDE,
    cutmix,
    jittered,
    random_light,
    random_rectangles,
    random_view,
)
from cbs_plugins.training.held import Held
from cbs_plugins.training.segmentation_losses import (
    class_weights,
    cross_entropy,
    distillation_loss,
    not_person_loss,
)

SCALES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
"""By which the paper resizes pictures before a crop."""

POWER = 0.9
"""Of the poly schedule."""

WARM_UP_FROM = 1 / 3
"""Of the learning rate, at the first step."""

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda params, **options: torch.optim.SGD(params, momentum=0.9, **options),
}

READERS = min(8, os.cpu_count() or 1)
"""Threads that read photographs when all of them are looked at once, before the first step."""

LOOKED_AT = 16
"""Held pictures that a teacher sees at once."""

GRID = 4
"""Pixels, across and down, of which one label of a held picture tells where its classes are."""

PRIOR_PICTURES = 100
"""Of the training set, evenly spread, that tell how often a net finds each class."""

SEES = ("photographs", "views")

LEAST = 0.01
"""Share of a photograph that a class must cover for the photograph to be chosen by that class."""

SHOWN = 4
"""Pictures on a preview sheet."""

SHOWN_SIDE = 240
"""Pixels of each."""

Example = tuple[NDArray[np.uint8], NDArray[np.uint8], Tensor | None]
"""A picture, its labels, and the teacher's soft ones where there is a teacher."""


@dataclass(frozen=True, slots=True)
class Trainee:
    """A net to be trained, and what the plugin that will load it must be told."""

    name: str
    net: nn.Module
    """``(B,3,H,W)`` -> logits; its state dict is the weight file."""

    multiple: int
    """Pixels: the sides of its pictures are multiples of it."""

    mean: Sequence[float]
    """RGB, subtracted from pictures in [0,1]."""

    std: Sequence[float]
    """RGB, divides the difference."""

    metadata: Mapping[str, str]
    """Of the weight file, besides vocabulary or classes."""

    last: str | None = None
    """The name of the convolution that gives the logits, where it has a bias."""


class SegmentationTask:
    """Trains a net on a labelled set, and on unlabelled photographs by a teacher's soft labels.

    Args:
        create: builds and initialises the net, from torch's global generator; takes the class names
            and their vocabulary's name, or None.
        data: as `cbs_core.datasets.labelled.find` takes it; its split ``val`` validates. A
            layout without splits gives every tenth picture to validation.
        steps: in all, over which the learning rate falls.
        crop: height and width of a view, pixels.
        batch: labelled views a step.
        optimizer: of `OPTIMIZERS`.
        learning_rate: the highest.
        weight_decay: of the optimizer.
        warm_up: steps over which the learning rate rises from a third.
        splits: what is trained on. With ``val`` among them, validation tells no more than how well
            the net remembers: keep its last weights, and measure them on a split ``test``.
        scales: one of them resizes the picture before each crop.
        jitter: by how much, at most, each view's brightness, contrast and saturation are changed,
            as a share.
        cutmix: share of the views into which a part of another is set
            (`cbs_plugins.training.augmentation.cutmix`).
        weighted: whether classes are weighed by ``1 / ln(1.10 + frequency)``.
        ohem: see `cbs_plugins.training.segmentation_losses.cross_entropy`.
        by_class: share of the views that are chosen by class, each class alike, and cut around it,
            so that rare classes are seen; of unlabelled photographs by what the teacher finds.
        frozen_norm: whether BatchNorm's means and variances stay those of ``init``, in training
            too, as in the second phase of Chen et al. 2017 (1706.05587, section 4.1): for batches
            too small to tell them. It wants a low learning rate.
        average: share of the steps, the last ones, over which the weights are averaged; the mean
            is validated and exported (Izmailov et al. 2018, 1803.05407). 0 takes those of the last
            step. It made a net that knew its training set by heart better on other pictures. Its
            checkpoints hold both, and are no weight files.
        adjust: how far rare classes are favoured: so many times the logarithm of a class's mean
            probability, by the net itself on training pictures, is taken from its logits when the
            net is validated and exported (Menon et al. 2021, 2007.07314, section 4). 0 leaves them.
        not_person_weight: of the loss of pixels known not to be a person.
        loss_stride: the losses see every so many pixels of a row and a column. With 21 classes,
            losses at full size are more than half of a step's time.
        teacher: the ``name`` and parameters of a segmenter that knows all the classes.
        teacher_sees: ``photographs``, each once and whole, in memory from then on: little work a
            step. Or ``views``, as the student does, in the same light and with the same rectangles
            set in, so that no two of its answers are the same (Beyer et al. 2022, 2106.05237): it
            computes at each step, which pays on a GPU.
        held: whether all pictures are kept on the device that trains, and views cut there
            (`cbs_plugins.training.held.Held`), for a GPU that would wait for the threads that
            decode and scale. The set must fit into its memory.
        teacher_weight: of the distillation loss.
        temperature: of the distillation loss.
        unlabelled: photographs, as `cbs_core.datasets.samples.find_photos` takes them; they need a
            teacher. None, with a teacher, distils the labelled pictures only.
        unlabelled_batch: views of them a step.
        vocabulary: of the label ids, where the data does not tell it.
        init: a weight file to start from, perhaps of other classes; else the net's own
            initialisation.
        held_out: how many validation pictures are used, evenly spread; None for all.
        seed: of the initialisation and the order.

    Raises:
        ConfigError: the data, the teacher or a number is wrong.
        WeightsError: those of ``init`` or of the teacher.
    """

    criterion = "mean_iou"
    greater_is_better = True

    def __init__(
        self,
        create: Callable[[tuple[str, ...], str | None], Trainee],
        data: str,
        steps: int,
        crop: Sequence[int] = (360, 480),
        batch: int = 16,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 2e-4,
        warm_up: int = 500,
        splits: Sequence[str] = ("train",),
        scales: Sequence[float] = SCALES,
        jitter: float = 0.0,
        cutmix: float = 0.0,
        weighted: bool = True,
        ohem: float | None = None,
        by_class: float = 0.0,
        frozen_norm: bool = False,
        average: float = 0.0,
        adjust: float = 0.0,
        not_person_weight: float = 0.1,
        loss_stride: int = 1,
        teacher: Mapping[str, object] | None = None,
        teacher_sees: str = "photographs",
        held: bool = False,
        teacher_weight: float = 1.0,
        temperature: float = 1.0,
        unlabelled: str | None = None,
        unlabelled_batch: int = 0,
        vocabulary: str | None = None,
        init: str | None = None,
        held_out: int | None = None,
        seed: int = 0,
    ) -> None:
        self.crop = _checked_crop(crop)
        if batch < 1 or loss_stride < 1 or unlabelled_batch < 0:
            raise ConfigError("recipe: batch and loss_stride are at least 1, unlabelled_batch 0")
        for key, share in (("by_class", by_class), ("cutmix", cutmix), ("average", average)):
            if not 0 <= share <= 1:
                raise ConfigError(f"recipe.{key}={share} must be in [0,1]")
        if (unlabelled is None) != (unlabelled_batch == 0):
            raise ConfigError("recipe.unlabelled and recipe.unlabelled_batch go together")
        if unlabelled is not None and teacher is None:
            raise ConfigError("recipe.unlabelled needs a teacher: say teacher=NAME")
        if frozen_norm and init is None:
            raise ConfigError("recipe.frozen_norm needs weights to start from: say init=FILE")
        if not 0 <= jitter < 1:
            raise ConfigError(f"recipe.jitter={jitter} must be in [0,1)")
        if teacher_sees not in SEES:
            raise ConfigError(
                f"recipe.teacher_sees={teacher_sees} must be one of {', '.join(SEES)}"
                f"{closest(teacher_sees, SEES)}"
            )
        self.train, self.val = _sets(data, splits, vocabulary, held_out)
        self.classes = self.train.classes
        self._scales, self._jitter, self._cutmix = tuple(scales), jitter, cutmix
        self._batch_size, self._unlabelled_batch = batch, unlabelled_batch
        self._by_class = by_class
        self._loss_stride = loss_stride
        self._ohem, self._temperature = ohem, temperature
        self._teacher_weight, self._not_person_weight = teacher_weight, not_person_weight
        self._person = self.classes.index("person") if "person" in self.classes else None

        usable, frequencies, self._places = scan(self.train)
        self._weights = torch.tensor(class_weights(frequencies)) if weighted else None
        self._order = Shuffled(len(usable), seed)
        photos = [] if unlabelled is None else find_photos(unlabelled, split="train")
        self._photo_order = Shuffled(len(photos), seed + 1)
        self._photo_places: dict[int, list[int]] = {}
        self._labelled = len(usable)
        items: list[Pair | Path] = [*usable, *photos]
        self._examples = Samples(items, self._read, lambda index: index)
        self._teacher = None if teacher is None else _teacher(teacher, self.classes)
        self._sees_views = teacher_sees == "views"
        self._holds = held
        self._held: Held | None = None
        self._grids: list[NDArray[np.uint8]] = []

        known = vocabularies.of_classes(self.classes)
        self.vocabulary = next(
            (v for v in vocabularies.NAMES if vocabularies.get(v) is known), None
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trainee = create(self.classes, self.vocabulary)
        self.net = self.trainee.net
        if init is not None:
            start_from(self.net, load(init), len(self.classes), net=self.trainee.name)
        norms = [module for module in self.net.modules() if isinstance(module, nn.BatchNorm2d)]
        self._frozen = norms if frozen_norm else []
        self._adjust = adjust
        if adjust and self.trainee.last is None:
            raise ConfigError(
                f"recipe.adjust: the last layer of {self.trainee.name} has no bias to adjust"
            )
        if any(side % self.trainee.multiple for side in self.crop):
            raise ConfigError(
                f"recipe.crop={list(self.crop)}: {self.trainee.name} takes multiples of "
                f"{self.trainee.multiple} pixels"
            )
        self.name = self.vocabulary or "segmenter"
        self.device = torch.device("cpu")
        self.module, self._average = self.net, None
        self._average_from = steps * (1 - average)
        if average:
            self._average = AveragedModel(self.net, use_buffers=True)
            self.module = nn.ModuleDict({"net": self.net, "average": self._average})
        self.segmenter = self._normalised(self.net)
        if optimizer not in OPTIMIZERS:
            raise ConfigError(
                f"no optimizer '{optimizer}'{closest(optimizer, OPTIMIZERS)} (there are: "
                f"{', '.join(OPTIMIZERS)})"
            )
        self.optimizer = OPTIMIZERS[optimizer](
            self.net.parameters(), lr=learning_rate, weight_decay=weight_decay
        )
        if self._average is not None:
            self.optimizer.register_step_post_hook(self._add_to_average)
        self.scheduler: LRScheduler = LambdaLR(
            self.optimizer, lambda step: poly(step, steps, warm_up)
        )

    def _normalised(self, net: nn.Module) -> PaddedSegmenter:
        trainee = self.trainee
        return PaddedSegmenter(
            net, multiple=trainee.multiple, mean=trainee.mean, std=trainee.std
        ).to(self.device)

    def _result(self) -> nn.Module:
        """Returns the net that is validated and exported."""
        net: nn.Module = self.net
        if self._average is not None and self._average.n_averaged:
            net = self._average.module
        if not self._adjust:
            return net
        net = copy.deepcopy(net)
        bias = net.get_submodule(str(self.trainee.last)).bias
        assert isinstance(bias, Tensor)
        with torch.no_grad():
            bias -= self._adjust * self._found(net).log()
        return net

    def _found(self, net: nn.Module) -> Tensor:
        """Returns the mean probability ``(K,)`` of each class on `PRIOR_PICTURES`, above 0."""
        stride = math.ceil(self._labelled / PRIOR_PICTURES)
        segmenter, total = self._normalised(net).eval(), torch.zeros((), device=self.device)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for index in range(0, self._labelled, stride):
                picture = torch.from_numpy(self._examples(index)[0]).to(self.device)
                image = picture.permute(2, 0, 1)[None] / 255
                total = total + segmenter(image).softmax(1).mean((0, 2, 3))
        return (total / total.sum()).clamp(min=1e-6)

    def _add_to_average(self, *_: object) -> None:
        """Counts the weights that the optimizer has just left."""
        assert self._average is not None
        if self.scheduler.last_epoch >= self._average_from:
            self._average.update_parameters(self.net)

    def prepare(self, device: torch.device, /) -> None:
        """Moves what is not trained."""
        self.device = device
        self.segmenter.to(device)
        if self._weights is not None:
            self._weights = self._weights.to(device)
        if self._teacher is not None:
            self._teacher.to(device)
        if self._holds:
            self._hold(device)
        if self._unlabelled_batch and self._by_class:
            self._photo_places = self._found_in_photos()

    def batch(self, step: int, generator: torch.Generator, /) -> tuple[Tensor, ...]:
        """Returns what is drawn for a step, of labelled pictures first.

        The light is ``(B,3)`` as `jittered` takes it, then come the rectangles ``(B,4)`` that
        `cutmix` takes. Then views, uint8 ``(B,3,H,W)``, and their labels ``(B,H,W)``; with a
        teacher that sees photographs also its logits ``(B,K,H/8,W/8)`` in float16, and a bool
        ``(B,H/8,W/8)`` that tells where they hold. Of held pictures: what `Held` takes.
        """
        rows: list[tuple[Tensor, ...]] = []
        for slot in range(self._batch_size):
            index = self._order(step * self._batch_size + slot)
            rows.append(self._view(*self._chosen(index, self._places, generator), generator))
        for slot in range(self._unlabelled_batch):
            index = self._labelled + self._photo_order(step * self._unlabelled_batch + slot)
            rows.append(self._view(*self._chosen(index, self._photo_places, generator), generator))
        light = random_light(len(rows), self._jitter, generator)
        rectangles = random_rectangles(len(rows), self._cutmix, self.crop, generator)
        return light, rectangles, *map(torch.stack, zip(*rows, strict=True))

    def _chosen(
        self, index: int, places: Mapping[int, list[int]], generator: torch.Generator
    ) -> tuple[int, int | None]:
        """Returns the index, or that of a picture that has a class drawn, and the class."""
        chance = float(torch.rand((), generator=generator))
        if chance >= self._by_class or not places:
            return index, None
        classes = sorted(places)
        focus = classes[int(torch.randint(len(classes), (), generator=generator))]
        having = places[focus]
        return having[int(torch.randint(len(having), (), generator=generator))], focus

    def _view(
        self, index: int, focus: int | None, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        if self._held is not None:
            known = self._grids[index]
            shape = self._held.shapes[index]
        else:
            picture, labels, soft = self._examples(index)
            known, shape = self._known(index, labels, soft), labels.shape
        places = None if focus is None else known == focus
        view = random_view(shape, self.crop, self._scales, generator, focus=places)
        if self._held is not None:
            return torch.tensor(index), torch.tensor(view.box)
        seen = (view.of_picture(picture), view.of_labels(labels))
        return seen if soft is None or self._sees_views else (*seen, *view.of_soft(soft))

    def _known(
        self, index: int, labels: NDArray[np.uint8], soft: Tensor | None
    ) -> NDArray[np.uint8]:
        """Returns the classes in a picture: its labels, else what the teacher finds."""
        if soft is None or index < self._labelled:
            return labels
        return soft.argmax(0).byte().numpy()

    def _hold(self, device: torch.device) -> None:
        """Reads all pictures, and has the teacher look at them where that is needed."""
        examples = list(prefetch(self._examples, range(len(self._examples.items)), workers=READERS))
        self._held = held = Held([one[:2] for one in examples], self.crop, device)
        self._grids = [labels[::GRID, ::GRID].copy() for _, labels, _ in examples]
        del examples
        if self._teacher is None or (self._sees_views and not self._by_class):
            return
        found = []
        for part in torch.split(held.pictures, LOOKED_AT):
            cells = [side // SOFT_STRIDE for side in part.shape[1:3]]
            found.append(self._teacher.cells(part.permute(0, 3, 1, 2) / 255, cells))
        soft = torch.cat(found)
        for index in range(self._labelled, len(soft)):
            down, across = (math.ceil(side / SOFT_STRIDE) for side in held.shapes[index])
            self._grids[index] = soft[index, :, :down, :across].argmax(0).byte().cpu().numpy()
        if not self._sees_views:
            held.soft = soft

    def _found_in_photos(self) -> dict[int, list[int]]:
        """Returns, for each class but a background, the photographs that the teacher finds it in.

        Without held pictures it sees all of them for that, a tenth of a second each on a CPU.
        """
        indices = range(self._labelled, len(self._examples.items))
        grids: Iterable[NDArray[np.uint8]] = self._grids[self._labelled :]
        if self._held is None:
            seen = prefetch(self._examples, indices, workers=READERS)
            grids = (self._known(i, one[1], one[2]) for i, one in zip(indices, seen, strict=True))
        places: dict[int, list[int]] = {}
        for index, grid in zip(indices, grids, strict=True):
            counts = np.bincount(grid.ravel(), minlength=len(self.classes))
            for found in np.nonzero(counts > LEAST * grid.size)[0].tolist():
                if self.classes[found] != "background" and index not in self._examples.broken:
                    places.setdefault(found, []).append(index)
        return places

    def _read(self, item: Pair | Path) -> Example:
        if isinstance(item, Pair):
            picture, labels = self.train.read(item)
            path = item.picture
        else:
            picture, path = read_rgb(item), item
            labels = np.full(picture.shape[:2], IGNORE, np.uint8)
        needed = not self._sees_views or (self._by_class and isinstance(item, Path))
        if self._teacher is None or self._holds or not needed:
            return picture, labels, None
        return picture, labels, self._teacher.soft(path, picture)

    def step(self, *batch: Tensor) -> Mapping[str, Tensor]:
        """Returns ``loss`` and its parts; logits are resized to the labels that are compared."""
        for module in self._frozen:
            module.eval()
        light, rectangles, *views = batch
        if self._held is not None:
            views = self._held(*views)
        if self._cutmix:
            views = cutmix(views, rectangles)
        pictures, labels, *soft = views
        stride = self._loss_stride
        image, labels = pictures.float() / 255, labels[:, ::stride, ::stride].long()
        if self._jitter:
            image = jittered(image, light)
        logits = self.segmenter(image).float()
        full = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
        parts = {"cross_entropy": cross_entropy(full, labels, self._weights, ohem=self._ohem)}
        loss = parts["cross_entropy"]
        if self._person is not None and self.train.ignored:
            parts["not_person"] = not_person_loss(full, labels, self._person)
            loss = loss + self._not_person_weight * parts["not_person"]
        if self._teacher is not None:
            theirs, where = soft if soft else (self._teacher.logits(image), None)
            parts["distillation"] = distillation_loss(
                logits, theirs.float(), self._temperature, where=where
            )
            loss = loss + self._teacher_weight * parts["distillation"]
        return {"loss": loss, **parts}

    def validate(self) -> Mapping[str, float]:
        """Returns mIoU, pixel accuracy and each class's IoU on the validation pictures."""
        scores = score_segmenter(
            self._normalised(self._result()),
            self.classes,
            self.val,
            device=self.device,
            boundaries=False,
        )
        figures = {"mean_iou": scores.mean_iou, "pixel_accuracy": scores.pixel_accuracy}
        return figures | {f"iou {name}": value for name, value in scores.iou.items()}

    def preview(self) -> Tensor | None:
        """Returns a sheet of pictures, their labels and what the net finds, uint8 ``(H,W,3)``."""
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(self.classes)] = vocabularies.colours(self.classes)
        rows, segmenter = [], self._normalised(self._result())
        for pair in self.val.pairs[:SHOWN]:
            picture, labels = self.val.read(pair)
            image = torch.from_numpy(picture).to(self.device).permute(2, 0, 1)[None] / 255
            logits = segmenter(image).float()
            found = F.interpolate(logits, labels.shape, mode="bilinear").argmax(1)[0].cpu().numpy()
            cells = torch.from_numpy(np.stack([picture, colours[labels], colours[found]]))
            small = F.interpolate(cells.permute(0, 3, 1, 2), (SHOWN_SIDE, SHOWN_SIDE))
            rows.append(torch.cat([*small.permute(0, 2, 3, 1)], 1))
        return torch.cat(rows)

    def export(self) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
        """Returns the weights and what tells the plugin how to use them."""
        names = {"classes": json.dumps(self.classes)}
        if self.vocabulary is not None:
            names = {"vocabulary": self.vocabulary}
        return self._result().state_dict(), {**names, **self.trainee.metadata}


def segmentation_task(
    create: Callable[..., Trainee], params: Mapping[str, object], *, owner: str
) -> SegmentationTask:
    """Returns the training of a net from parameters of both.

    Args:
        create: builds the net; its keyword-only parameters are taken out of ``params``.
        params: by name.
        owner: who takes them, for messages.

    Raises:
        CbsError: as `SegmentationTask` and ``create`` raise.
    """
    of_net = [p.name for p in signature(create).parameters.values() if p.kind is p.KEYWORD_ONLY]
    chosen = {key: params[key] for key in of_net if params.get(key) is not None}
    if params.get("init") is not None:
        # What the weights learnt is worth little on pictures that are normalised in another way.
        start = load(str(params["init"]))
        for key in {"mean", "std"} & {*of_net} - {*chosen}:
            told = said_rgb(start, key)
            if told is not None:
                chosen[key] = told
    build = partial(SegmentationTask, partial(create, **chosen))
    rest = {key: value for key, value in params.items() if key not in of_net}
    checked: dict[str, Any] = registry.checked_parameters(build, rest, owner=owner)
    return build(**checked)


def poly(step: int, steps: int, warm_up: int) -> float:
    """Returns the factor of the learning rate: ``(1 - step/steps)^0.9``, risen to linearly.

    Example:
        >>> [round(poly(step, 100, 10), 3) for step in (0, 5, 10, 50, 100)]
        [0.333, 0.637, 0.91, 0.536, 0.0]
    """
    rise = min(1.0, WARM_UP_FROM + (1 - WARM_UP_FROM) * step / max(1, warm_up))
    return float(rise * max(0.0, 1 - step / steps) ** POWER)


def scan(labelled: LabelledSet) -> tuple[list[Pair], list[float], dict[int, list[int]]]:
    """Reads all labels once; files that are broken are named and left out.

    Returns:
        The pairs that remain; each class's share of the labelled pixels; and, for each class but
        a background, the indices of the pairs that have it.

    Raises:
        ConfigError: none remains.
    """
    usable: list[Pair] = []
    counts = np.zeros(len(labelled.classes), np.int64)
    places: dict[int, list[int]] = {}
    for pair in labelled.pairs:
        try:
            labels = labelled.read_labels(pair)
        except CbsError as error:
            log.warning("passed over: %s", error)
            continue
        of_each = np.bincount(labels.ravel(), minlength=256)[: len(counts)]
        counts += of_each
        for index in np.nonzero(of_each)[0].tolist():
            if labelled.classes[index] != "background":
                places.setdefault(index, []).append(len(usable))
        usable.append(pair)
    if not usable:
        raise ConfigError("none of the training labels can be read: see the lines above")
    return usable, (counts / max(1, counts.sum())).tolist(), places


def start_from(module: nn.Module, checkpoint: Checkpoint, classes: int, *, net: str) -> None:
    """Copies weights into a net; a layer of one output a class is kept where theirs are others.

    Args:
        module: the net.
        checkpoint: its weights, or those of the same net for another number of classes.
        classes: the net's.
        net: its name, for messages.

    Raises:
        WeightsKeysError: the weights of another net.
    """
    own = module.state_dict()
    anew = {
        name: tensor
        for name, tensor in own.items()
        if tensor.ndim and len(tensor) == classes
        if name in checkpoint.tensors and checkpoint.tensors[name].shape[1:] == tensor.shape[1:]
        if len(checkpoint.tensors[name]) != classes
    }
    if anew:
        log.warning(
            "'%s' is of other classes: learnt anew are %s", checkpoint.file.path, ", ".join(anew)
        )
    load_into(module, replace(checkpoint, tensors={**checkpoint.tensors, **anew}), net=net)


def _checked_crop(crop: Sequence[int]) -> tuple[int, int]:
    if len(crop) != 2 or any(type(side) is not int or side < 1 for side in crop):
        raise ConfigError(f"recipe.crop={list(crop)} must be a height and a width in pixels")
    return crop[0], crop[1]


def _sets(
    data: str, splits: Sequence[str], vocabulary: str | None, held_out: int | None
) -> tuple[LabelledSet, LabelledSet]:
    if isinstance(splits, str) or not splits:
        raise ConfigError("recipe.splits is a list of names: say recipe.splits=[train,val]")
    parts = [find(data, name, vocabulary) for name in splits]
    pairs = sorted({pair for part in parts for pair in part.pairs})
    train = replace(parts[0], pairs=tuple(pairs))
    val = find(data, "val", vocabulary)
    if find(data, "train", vocabulary).pairs == val.pairs:  # a layout without splits
        if len(train.pairs) < 2:
            raise ConfigError(f"'{data}' holds one picture: one more is needed for validation")
        rest = tuple(pair for index, pair in enumerate(train.pairs) if index % 10)
        val = LabelledSet(train.classes, train.pairs[::10], train.ignored)
        train = LabelledSet(train.classes, rest, train.ignored)
    if held_out is not None:
        stride = max(1, math.ceil(len(val.pairs) / max(1, held_out)))
        val = LabelledSet(val.classes, val.pairs[::stride], val.ignored)
    return train, val


class _Teacher:
    """A segmenter's soft labels, its channels in the student's order.

    A photograph that is seen once is seen whole and as large as it is: of crops and enlargements a
    teacher knows less. One of 512x384 pixels then takes 130 KB of memory at 21 classes.
    """

    def __init__(self, segmenter: nn.Module, channels: Sequence[int]) -> None:
        self._segmenter = segmenter.eval().requires_grad_(False)
        self._channels = list(channels)
        self._device = torch.device("cpu")
        self._seen: dict[Path, Tensor] = {}

    def to(self, device: torch.device) -> None:
        self._device = device
        self._segmenter.to(device).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Returns logits ``(B,K,h,w)`` of pictures ``(B,3,H,W)`` in [0,1]."""
        logits: Tensor = self._segmenter(images)
        return logits[:, self._channels]

    def cells(self, images: Tensor, size: Sequence[int]) -> Tensor:
        """Returns the same in float16 as means over so many cells: ``(B,K,*size)``."""
        logits = self.logits(images).float()
        return F.interpolate(logits, size, mode="bilinear", antialias=True).half()

    def soft(self, path: Path, picture: NDArray[np.uint8]) -> Tensor:
        """Returns logits ``(K,H/8,W/8)``, float16 on the host, of a picture ``(H,W,3)``."""
        if path not in self._seen:
            image = torch.from_numpy(picture).to(self._device).permute(2, 0, 1)[None] / 255
            cells = [math.ceil(side / SOFT_STRIDE) for side in picture.shape[:2]]
            self._seen[path] = self.cells(image, cells)[0].cpu()
        return self._seen[path]


def _teacher(section: Mapping[str, object], classes: tuple[str, ...]) -> _Teacher:
    name, params = split_section(section, "teacher")
    segmenter: Any = registry.segmenters.create(name, **params)
    if not isinstance(segmenter, nn.Module):
        raise ConfigError(f"the teacher '{name}' is no torch module: choose another")
    known: tuple[str, ...] = tuple(map(str, segmenter.classes))  # type: ignore[arg-type]
    theirs = class_map(classes, known).tolist()
    for ours, index in zip(classes, theirs, strict=True):
        if index == len(known) or theirs.count(index) > 1:
            raise ConfigError(
                f"the teacher '{name}' has no class of its own for '{ours}' (it knows: "
                f"{', '.join(known)}): choose another teacher"
            )
    return _Teacher(segmenter, theirs)
