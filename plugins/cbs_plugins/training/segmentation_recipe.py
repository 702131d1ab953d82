"""What the training of a segmenter is told: the keys of ``recipe``, by what they are about."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.optim import Optimizer

from cbs_core.contract.errors import ConfigError, closest
from cbs_core.training.recipe import number

SCALES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
"""By which the paper resizes pictures before a crop."""

SEES = ("photographs", "views")

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda params, **options: torch.optim.SGD(params, momentum=0.9, **options),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What is trained on.

    Args:
        data: as `cbs_core.datasets.labelled.find` takes it; its split ``val`` validates. A
            layout without splits gives every tenth picture to validation.
        splits: what is trained on. With ``val`` among them, validation tells no more than how well
            the net remembers: keep its last weights, and measure them on a split ``test``.
        vocabulary: of the label ids, where the data does not tell it.
        held_out: how many validation pictures are used, evenly spread; None for all.
        batch: labelled views a step.
        unlabelled: photographs, as `cbs_core.datasets.samples.find_photos` takes them; they need a
            teacher. None, with a teacher, distils the labelled pictures only.
        unlabelled_batch: views of them a step.
        held: whether all pictures are kept on the device that trains, and views cut there
            (`cbs_plugins.training.held.Held`), for a GPU that would wait for the threads that
            decode and scale. The set must fit into its memory.

    Raises:
        ConfigError: a value is wrong.
    """

    data: str
    splits: Sequence[str] = ("train",)
    vocabulary: str | None = None
    held_out: int | None = number(None, least=1)
    batch: int = number(16, least=1, most=4096)
    unlabelled: str | None = None
    unlabelled_batch: int = number(0, most=4096)
    held: bool = False

    def __post_init__(self) -> None:
        if (self.unlabelled is None) != (self.unlabelled_batch == 0):
            raise ConfigError("recipe.unlabelled and recipe.unlabelled_batch go together")
        if isinstance(self.splits, str) or not self.splits:
            raise ConfigError("recipe.splits is a list of names: say recipe.splits=[train,val]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What is seen of a picture.

    Args:
        crop: height and width of a view, pixels.
        scales: one of them resizes the picture before each crop.
        jitter: by how much, at most, each view's brightness, contrast and saturation are changed,
            as a share.
        cutmix: share of the views into which a part of another is set
            (`cbs_plugins.training.augmentation.cutmix`).
        by_class: share of the views that are chosen by class, each class alike, and cut around it,
            so that rare classes are seen; of unlabelled photographs by what the teacher finds.

    Raises:
        ConfigError: a value is wrong.
    """

    crop: Sequence[int] = number((360, 480), least=1, most=16384)
    scales: Sequence[float] = number(SCALES, least=0, most=64, above=True)
    jitter: float = number(0.0, most=0.999)
    cutmix: float = number(0.0, most=1)
    by_class: float = number(0.0, most=1)

    def __post_init__(self) -> None:
        crop = self.crop
        if len(crop) != 2 or any(type(side) is not int or side < 1 for side in crop):
            raise ConfigError(f"recipe.crop={list(crop)} must be a height and a width in pixels")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a view, pixels."""
        return self.crop[0], self.crop[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What is minimised.

    Args:
        weighted: whether classes are weighed by ``1 / ln(1.10 + frequency)``.
        ohem: see `cbs_plugins.training.segmentation_losses.cross_entropy`.
        not_person_weight: of the loss of pixels known not to be a person.
        loss_stride: the losses see every so many pixels of a row and a column. With 21 classes,
            losses at full size are more than half of a step's time.
    """

    weighted: bool = True
    ohem: float | None = number(None, most=1, above=True)
    not_person_weight: float = number(0.1)
    loss_stride: int = number(1, least=1, most=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """What a teacher adds.

    Args:
        teacher: the ``name`` and parameters of a segmenter that knows all the classes.
        teacher_sees: ``photographs``, each once and whole, in memory from then on: little work a
            step. Or ``views``, as the student does, in the same light and with the same rectangles
            set in, so that no two of its answers are the same (Beyer et al. 2022, 2106.05237): it
            computes at each step, which pays on a GPU.
        teacher_weight: of the distillation loss.
        temperature: of the distillation loss.

    Raises:
        ConfigError: a value is wrong.
    """

    teacher: Mapping[str, object] | None = None
    teacher_sees: str = "photographs"
    teacher_weight: float = number(1.0)
    temperature: float = number(1.0, most=1000, above=True)

    def __post_init__(self) -> None:
        if self.teacher_sees not in SEES:
            raise ConfigError(
                f"recipe.teacher_sees={self.teacher_sees} must be one of {', '.join(SEES)}"
                f"{closest(self.teacher_sees, SEES)}"
            )

    @property
    def of_views(self) -> bool:
        """Whether the teacher sees what the student sees."""
        return self.teacher_sees == "views"


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimisation:
    """How the losses are minimised.

    Args:
        steps: in all, over which the learning rate falls.
        optimizer: of `OPTIMIZERS`.
        learning_rate: the highest.
        weight_decay: of the optimizer.
        warm_up: steps over which the learning rate rises from a third.
        seed: of the initialisation and the order.

    Raises:
        ConfigError: no such optimizer.
    """

    steps: int
    optimizer: str = "adam"
    learning_rate: float = number(1e-3, most=10)
    weight_decay: float = number(2e-4, most=10)
    warm_up: int = number(500, most=1e9)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(
                f"no optimizer '{self.optimizer}'{closest(self.optimizer, OPTIMIZERS)} (there are: "
                f"{', '.join(OPTIMIZERS)})"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What the net starts from, and which weights are kept.

    Args:
        init: a weight file to start from, perhaps of other classes; else the net's own
            initialisation.
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

    Raises:
        ConfigError: a value is wrong.
    """

    init: str | None = None
    frozen_norm: bool = False
    average: float = number(0.0, most=1)
    adjust: float = number(0.0, most=100)

    def __post_init__(self) -> None:
        if self.frozen_norm and self.init is None:
            raise ConfigError("recipe.frozen_norm needs weights to start from: say init=FILE")


@dataclass(frozen=True, slots=True)
class Recipe:
    """All of it; `cbs_core.training.recipe.bind` fills it.

    Raises:
        ConfigError: what the groups say does not go together.
    """

    optimisation: Optimisation
    data: Data
    augmentation: Augmentation = field(default_factory=Augmentation)
    losses: Losses = field(default_factory=Losses)
    teaching: Teaching = field(default_factory=Teaching)
    weights: Weights = field(default_factory=Weights)

    def __post_init__(self) -> None:
        if self.data.unlabelled is not None and self.teaching.teacher is None:
            raise ConfigError("recipe.unlabelled needs a teacher: say teacher=NAME")
