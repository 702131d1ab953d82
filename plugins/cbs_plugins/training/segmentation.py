"""Training of segmenters: DABNet's recipe, with a teacher's soft labels where one is named.

Source: Li et al. 2019 (1907.11357, section 4.1) and its code: class weights or hard example
mining, the poly schedule with warm-up, random scale, flip and crop.

Letters: ``B`` batch, ``K`` classes, ``H W`` the crop, ``h w`` a net's output.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from cbs_core.choose.weights import load
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.tensors import to_image, to_size
from cbs_core.evaluation.scores import score_segmenter
from cbs_core.training.recipe import bind
from cbs_core.words import vocabularies
from cbs_plugins.nets.backbones import PaddedSegmenter, said_rgb, with_rest
from cbs_plugins.training import teacher as teachers
from cbs_plugins.training.augmentation import cutmix, jittered
from cbs_plugins.training.kept import Kept
from cbs_plugins.training.segmentation_data import Views, divided, usual_size
from cbs_plugins.training.segmentation_losses import (
    class_weights,
    cross_entropy,
    distillation_loss,
    not_person_loss,
)
from cbs_plugins.training.segmentation_recipe import OPTIMIZERS, Recipe
from cbs_plugins.training.start import start_from

POWER = 0.9
"""Of the poly schedule."""

WARM_UP_FROM = 1 / 3
"""Of the learning rate, at the first step."""

PRIOR_PICTURES = 100
"""Of the training set, evenly spread, that tell how often a net finds each class."""

SHOWN = 4
"""Pictures on a preview sheet."""

SHOWN_SIDE = 240
"""Pixels of each."""

Create = Callable[[tuple[str, ...], str | None], "Trainee"]
"""Builds and initialises a net, from torch's global generator, for class names and the name of
their vocabulary, or None."""


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

    known: Sequence[nn.Module] = ()
    """Parts of the net that stay as they are."""


class SegmentationTask:
    """Trains a net on a labelled set, and on unlabelled photographs by a teacher's soft labels.

    It is a `cbs_core.contract.task.Task`.

    Args:
        create: builds the net.
        recipe: how.

    Raises:
        ConfigError: the data, the teacher or a number is wrong.
        WeightsError: those of ``init`` or of the teacher.
    """

    criterion = "mean_iou"
    greater_is_better = True

    def __init__(self, create: Create, recipe: Recipe) -> None:
        self._recipe = recipe
        self.device = torch.device("cpu")
        self.train, self.val = divided(recipe.data)
        self.classes = self.train.classes
        self._person = self.classes.index("person") if "person" in self.classes else None
        taught = recipe.teaching.teacher
        self._teacher = None if taught is None else teachers.create(taught, self.classes)
        self._views = Views(self.train, recipe, self._teacher)
        weighted = recipe.losses.weighted
        self._weights = torch.tensor(class_weights(self._views.frequencies)) if weighted else None

        known = vocabularies.of_classes(self.classes)
        self.vocabulary = next(
            (v for v in vocabularies.NAMES if vocabularies.get(v) is known), None
        )
        self.name = self.vocabulary or "segmenter"
        self.trainee = self._created(create)
        self.net = self.trainee.net
        norms = [part for part in self.net.modules() if isinstance(part, nn.BatchNorm2d)]
        self._frozen = [*self.trainee.known, *(norms if recipe.weights.frozen_norm else ())]
        for part in self.trainee.known:
            part.requires_grad_(False)
        self.segmenter = self._normalised(self.net)
        steps, share = recipe.optimisation.steps, recipe.weights.average
        self._kept = Kept(
            self.net,
            steps * (1 - share) if share else None,
            recipe.weights.adjust,
            self.trainee.last,
        )
        self.module = self._kept.module
        how = recipe.optimisation
        self.optimizer = OPTIMIZERS[how.optimizer](
            [weight for weight in self.net.parameters() if weight.requires_grad],
            lr=how.learning_rate,
            weight_decay=how.weight_decay,
        )
        self.scheduler: LRScheduler = LambdaLR(
            self.optimizer, lambda step: poly(step, how.steps, how.warm_up)
        )
        self._kept.follow(self.optimizer, self.scheduler)

    def _created(self, create: Create) -> Trainee:
        """Returns the net that training starts from."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._recipe.optimisation.seed)
            trainee = create(self.classes, self.vocabulary)
        told, crop = self._recipe.weights, self._recipe.augmentation.size
        if told.init is not None:
            begun, _ = with_rest(load(told.init))
            start_from(trainee.net, begun, self.classes, net=trainee.name)
        if told.adjust and trainee.last is None:
            raise ConfigError(
                f"recipe.adjust: the last layer of {trainee.name} has no bias to adjust"
            )
        if any(side % trainee.multiple for side in crop):
            raise ConfigError(
                f"recipe.crop={list(crop)}: {trainee.name} takes multiples of "
                f"{trainee.multiple} pixels"
            )
        return trainee

    def _normalised(self, net: nn.Module) -> PaddedSegmenter:
        trainee = self.trainee
        return PaddedSegmenter(
            net, multiple=trainee.multiple, mean=trainee.mean, std=trainee.std
        ).to(self.device)

    def _result(self) -> nn.Module:
        """Returns the net that is validated and exported."""
        return self._kept.net(self._found)

    def _found(self, net: nn.Module) -> Tensor:
        """Returns the mean probability ``(K,)`` of each class on `PRIOR_PICTURES`, above 0."""
        count = self._views.labelled
        stride = math.ceil(count / PRIOR_PICTURES)
        segmenter, total = self._normalised(net).eval(), torch.zeros((), device=self.device)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for index in range(0, count, stride):
                picture = torch.from_numpy(self._views.picture(index)).to(self.device)
                total = total + segmenter(to_image(picture)).softmax(1).mean((0, 2, 3))
        return (total / total.sum()).clamp(min=1e-6)

    def prepare(self, device: torch.device, /) -> None:
        """Moves what is not trained."""
        self.device = device
        self.segmenter.to(device)
        if self._weights is not None:
            self._weights = self._weights.to(device)
        if self._teacher is not None:
            self._teacher.to(device)
        self._views.prepare(device)

    def batch(self, step: int, generator: torch.Generator, /) -> tuple[Tensor, ...]:
        """Returns what `Views.batch` draws."""
        return self._views.batch(step, generator)

    def step(self, *batch: Tensor) -> Mapping[str, Tensor]:
        """Returns ``loss`` and its parts; logits are resized to the labels that are compared."""
        for module in self._frozen:
            module.eval()
        how, losses, teaching = (
            *(self._recipe.augmentation, self._recipe.losses),
            self._recipe.teaching,
        )
        light, rectangles, *drawn = batch
        views = self._views.seen(drawn)
        if how.cutmix:
            views = cutmix(views, rectangles)
        pictures, labels, *soft = views
        stride = losses.loss_stride
        image, labels = pictures.float() / 255, labels[:, ::stride, ::stride].long()
        if how.jitter:
            image = jittered(image, light)
        logits = self.segmenter(image).float()
        full = to_size(logits, labels.shape[1:])
        parts = {"cross_entropy": cross_entropy(full, labels, self._weights, ohem=losses.ohem)}
        loss = parts["cross_entropy"]
        if self._person is not None and self.train.ignored:
            parts["not_person"] = not_person_loss(full, labels, self._person)
            loss = loss + losses.not_person_weight * parts["not_person"]
        if self._teacher is not None:
            theirs, where = soft if soft else (self._teacher.logits(image), None)
            parts["distillation"] = distillation_loss(
                logits,
                theirs.float(),
                teaching.temperature,
                where=where,
                channels=self._teacher.channels,
            )
            loss = loss + teaching.teacher_weight * parts["distillation"]
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
            logits = segmenter(to_image(torch.from_numpy(picture).to(self.device)))
            found = to_size(logits, labels.shape).argmax(1)[0].cpu().numpy()
            cells = torch.from_numpy(np.stack([picture, colours[labels], colours[found]]))
            small = F.interpolate(cells.permute(0, 3, 1, 2), (SHOWN_SIDE, SHOWN_SIDE))
            rows.append(torch.cat([*small.permute(0, 2, 3, 1)], 1))
        return torch.cat(rows)

    def export(self) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
        """Returns the weights and what tells the plugin how to use them."""
        names = {"classes": json.dumps(self.classes)}
        if self.vocabulary is not None:
            names = {"vocabulary": self.vocabulary}
        told = {**names, "good_size": json.dumps(usual_size(self.train))}
        return self._result().state_dict(), {**told, **self.trainee.metadata}


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
    rest = {key: value for key, value in params.items() if key not in of_net}
    recipe = bind(Recipe, rest, owner=owner, beside=of_net)
    return SegmentationTask(partial(create, **chosen), recipe)


def poly(step: int, steps: int, warm_up: int) -> float:
    """Returns the factor of the learning rate: ``(1 - step/steps)^0.9``, risen to linearly.

    Example:
        >>> [round(poly(step, 100, 10), 3) for step in (0, 5, 10, 50, 100)]
        [0.333, 0.637, 0.91, 0.536, 0.0]
    """
    rise = min(1.0, WARM_UP_FROM + (1 - WARM_UP_FROM) * step / max(1, warm_up))
    return float(rise * max(0.0, 1 - step / steps) ** POWER)
