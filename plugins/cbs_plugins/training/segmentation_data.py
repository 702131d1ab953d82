"""Which views a segmenter is trained on: the labelled set, photographs, and what is drawn of them.

Letters: ``B`` batch, ``K`` classes, ``H W`` the crop.
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median_low

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cbs_core.contract.errors import CbsError, ConfigError
from cbs_core.datasets.labelled import IGNORE, LabelledSet, Pair, find, read_rgb
from cbs_core.datasets.photos import find_photos
from cbs_core.datasets.samples import Samples, Shuffled, log, prefetch
from cbs_plugins.formats.pictures import picture_size
from cbs_plugins.training.augmentation import (
    SOFT_STRIDE,
    random_light,
    random_rectangles,
    random_view,
)
from cbs_plugins.training.held import Held
from cbs_plugins.training.segmentation_recipe import Data, Recipe
from cbs_plugins.training.teacher import Teacher

READERS = min(8, os.cpu_count() or 1)
"""Threads that read photographs when all of them are looked at once, before the first step."""

LOOKED_AT = 16
"""Held pictures that a teacher sees at once."""

GRID = 4
"""Pixels, across and down, of which one label of a held picture tells where its classes are."""

LEAST = 0.01
"""Share of a photograph that a class must cover for the photograph to be chosen by that class."""

MEASURED = 100
"""Pictures, evenly spread, of which the usual size is told."""

Example = tuple[NDArray[np.uint8], NDArray[np.uint8], Tensor | None]
"""A picture, its labels, and the teacher's soft ones where there is a teacher."""


class Views:
    """Views of labelled pictures and of photographs, as a recipe draws them.

    Args:
        labelled: what is trained on.
        recipe: how.
        teacher: whose soft labels the views have, unless it sees the views themselves.

    Raises:
        ConfigError: none of the labels can be read, or there are no photographs.
    """

    def __init__(self, labelled: LabelledSet, recipe: Recipe, teacher: Teacher | None) -> None:
        data, seed = recipe.data, recipe.optimisation.seed
        self._set, self._teacher = labelled, teacher
        self._data, self._how = data, recipe.augmentation
        self._sees_views = recipe.teaching.of_views
        usable, self.frequencies, self._places = scan(labelled)
        self.labelled = len(usable)
        """How many of the pictures, the first ones, have labels."""
        self._order = Shuffled(len(usable), seed)
        photos = [] if data.unlabelled is None else find_photos(data.unlabelled, split="train")
        self._photo_order = Shuffled(len(photos), seed + 1)
        self._photo_places: dict[int, list[int]] = {}
        items: list[Pair | Path] = [*usable, *photos]
        self._examples = Samples(items, self._read, lambda index: index)
        self._held: Held | None = None
        self._grids: list[NDArray[np.uint8]] = []

    def prepare(self, device: torch.device) -> None:
        """Looks at all pictures where the recipe needs that, and holds them on the device."""
        if self._data.held:
            self._hold(device)
        if self._data.unlabelled_batch and self._how.by_class:
            self._photo_places = self._found_in_photos()

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Returns a picture ``(H,W,3)``, the labelled ones first."""
        return self._examples(index)[0]

    def batch(self, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns what is drawn for a step, of labelled pictures first.

        The light is ``(B,3)`` as `jittered` takes it, then come the rectangles ``(B,4)`` that
        `cutmix` takes. Then views, uint8 ``(B,3,H,W)``, and their labels ``(B,H,W)``; with a
        teacher that sees photographs also its logits ``(B,C,H/8,W/8)`` in float16, and a bool
        ``(B,H/8,W/8)`` that tells where they hold. Of held pictures: what `Held` takes.
        """
        rows: list[tuple[Tensor, ...]] = []
        size, unlabelled = self._data.batch, self._data.unlabelled_batch
        for slot in range(size):
            index = self._order(step * size + slot)
            rows.append(self._view(*self._chosen(index, self._places, generator), generator))
        for slot in range(unlabelled):
            index = self.labelled + self._photo_order(step * unlabelled + slot)
            rows.append(self._view(*self._chosen(index, self._photo_places, generator), generator))
        light = random_light(len(rows), self._how.jitter, generator)
        rectangles = random_rectangles(len(rows), self._how.cutmix, self._how.size, generator)
        return light, rectangles, *map(torch.stack, zip(*rows, strict=True))

    def seen(self, drawn: list[Tensor]) -> list[Tensor]:
        """Returns the views of a batch, which of held pictures are cut only here."""
        return drawn if self._held is None else self._held(*drawn)

    def _chosen(
        self, index: int, places: Mapping[int, list[int]], generator: torch.Generator
    ) -> tuple[int, int | None]:
        """Returns the index, or that of a picture that has a class drawn, and the class."""
        chance = float(torch.rand((), generator=generator))
        if chance >= self._how.by_class or not places:
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
        view = random_view(shape, self._how.size, self._how.scales, generator, focus=places)
        if self._held is not None:
            return torch.tensor(index), torch.tensor(view.box)
        seen = (view.of_picture(picture), view.of_labels(labels))
        return seen if soft is None or self._sees_views else (*seen, *view.of_soft(soft))

    def _known(
        self, index: int, labels: NDArray[np.uint8], soft: Tensor | None
    ) -> NDArray[np.uint8]:
        """Returns the classes in a picture: its labels, else what the teacher finds."""
        if soft is None or index < self.labelled:
            return labels
        return self._named(soft)

    def _named(self, soft: Tensor) -> NDArray[np.uint8]:
        """Returns the student's classes ``(h,w)`` that a teacher's logits ``(C,h,w)`` tell of."""
        assert self._teacher is not None
        named: NDArray[np.uint8] = self._teacher.named[soft.argmax(0).byte().cpu().numpy()]
        return named

    def _hold(self, device: torch.device) -> None:
        """Reads all pictures, and has the teacher look at them where that is needed."""
        examples = list(prefetch(self._examples, range(len(self._examples.items)), workers=READERS))
        self._held = held = Held([one[:2] for one in examples], self._how.size, device)
        self._grids = [labels[::GRID, ::GRID].copy() for _, labels, _ in examples]
        del examples
        if self._teacher is None or (self._sees_views and not self._how.by_class):
            return
        found = []
        for part in torch.split(held.pictures, LOOKED_AT):
            cells = [side // SOFT_STRIDE for side in part.shape[1:3]]
            found.append(self._teacher.cells(part.permute(0, 3, 1, 2) / 255, cells))
        soft = torch.cat(found)
        for index in range(self.labelled, len(soft)):
            down, across = (math.ceil(side / SOFT_STRIDE) for side in held.shapes[index])
            self._grids[index] = self._named(soft[index, :, :down, :across])
        if not self._sees_views:
            held.soft = soft

    def _found_in_photos(self) -> dict[int, list[int]]:
        """Returns, for each class but a background, the photographs that the teacher finds it in.

        Without held pictures it sees all of them for that, a tenth of a second each on a CPU.
        """
        classes = self._set.classes
        indices = range(self.labelled, len(self._examples.items))
        grids: Iterable[NDArray[np.uint8]] = self._grids[self.labelled :]
        if self._held is None:
            seen = prefetch(self._examples, indices, workers=READERS)
            grids = (self._known(i, one[1], one[2]) for i, one in zip(indices, seen, strict=True))
        places: dict[int, list[int]] = {}
        for index, grid in zip(indices, grids, strict=True):
            counts = np.bincount(grid.ravel(), minlength=len(classes))[: len(classes)]
            for found in np.nonzero(counts > LEAST * grid.size)[0].tolist():
                if classes[found] != "background" and index not in self._examples.broken:
                    places.setdefault(found, []).append(index)
        return places

    def _read(self, item: Pair | Path) -> Example:
        if isinstance(item, Pair):
            picture, labels = self._set.read(item)
            path = item.picture
        else:
            picture, path = read_rgb(item), item
            labels = np.full(picture.shape[:2], IGNORE, np.uint8)
        needed = not self._sees_views or (self._how.by_class and isinstance(item, Path))
        if self._teacher is None or self._data.held or not needed:
            return picture, labels, None
        return picture, labels, self._teacher.soft(path, picture)


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


def divided(data: Data) -> tuple[LabelledSet, LabelledSet]:
    """Returns what is trained on, and what validates.

    Raises:
        ConfigError: no such data or splits, or too few pictures.
    """
    parts = [find(data.data, name, data.vocabulary) for name in data.splits]
    pairs = sorted({pair for part in parts for pair in part.pairs})
    train = replace(parts[0], pairs=tuple(pairs))
    val = find(data.data, "val", data.vocabulary)
    if find(data.data, "train", data.vocabulary).pairs == val.pairs:  # a layout without splits
        if len(train.pairs) < 2:
            raise ConfigError(f"'{data.data}' holds one picture: one more is needed for validation")
        rest = tuple(pair for index, pair in enumerate(train.pairs) if index % 10)
        val = replace(train, pairs=train.pairs[::10])
        train = replace(train, pairs=rest)
    if data.held_out is not None:
        stride = max(1, math.ceil(len(val.pairs) / max(1, data.held_out)))
        val = replace(val, pairs=val.pairs[::stride])
    return train, val


def usual_size(labelled: LabelledSet) -> tuple[int, int]:
    """Returns the median height and width of a set's pictures: what a net has seen most."""
    pairs = labelled.pairs[:: math.ceil(len(labelled.pairs) / MEASURED)]
    sizes = [picture_size(pair.picture) for pair in pairs]
    width, height = (median_low(side) for side in zip(*sizes, strict=True))
    return height, width
