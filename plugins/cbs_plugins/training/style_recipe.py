"""What the training of a style net is told: the keys of ``recipe``, by what they are about."""

from dataclasses import dataclass, field

from cbs_core.contract.errors import ConfigError, closest
from cbs_core.training.recipe import number
from cbs_plugins.nets import losses as gatys_losses

SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers that are compared; names are alike in VGG-16 and VGG-19."""

    content: str
    style: tuple[str, ...]


LOSSES = {
    "gatys": Layers(gatys_losses.CONTENT_LAYER, gatys_losses.STYLE_LAYERS),
    "johnson": Layers("relu2_2", ("relu1_2", "relu2_2", "relu3_3", "relu4_3")),
}

WEIGHTS = {16: (1e5, 1e10, 0.0), 19: (1.0, 5.0, 60.0)}
"""Of content, style and variation by net. VGG-16 takes pictures of unit variance, VGG-19 0..255:
content loss goes with the square of that scale, style loss with its fourth power.

Those of VGG-16 are the reference's. With VGG-19, Gatys' style weight of 1e3 suits an optimisation
that starts at the photograph and stops early; a net that is trained to its end leaves nothing of
the photograph then, while 5 shows who stands there in full style."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Painting:
    """What is learnt.

    Args:
        style: the painting, a picture file.
        style_size: the painting is resized to the square of this many pixels.
        style_source: where the painting is from, for the header.
        style_licence: likewise.

    Raises:
        ConfigError: no painting.
    """

    style: str | None = None
    style_size: int = number(256, least=32, most=8192)
    style_source: str | None = None
    style_licence: str | None = None

    def __post_init__(self) -> None:
        if self.style is None:
            raise ConfigError("no painting is chosen: say style=PICTURE")

    @property
    def path(self) -> str:
        """The painting's file."""
        return str(self.style)


@dataclass(frozen=True, slots=True, kw_only=True)
class Photographs:
    """What it is learnt on.

    Args:
        data: photographs (`cbs_core.datasets.samples.find_photos`).
        split: of a table of photographs.
        held_out: photographs for validation.
        crop: S, a multiple of the net's stride (4 or 8), pixels.
        batch: B.
    """

    data: str
    split: str | None = "train"
    held_out: int = number(16, least=1)
    crop: int = number(256, least=32, most=8192)
    batch: int = number(2, least=1, most=4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What is minimised.

    Args:
        losses: a key of `LOSSES`.
        vgg: 19 or 16.
        content_weight: None takes that of `WEIGHTS`.
        style_weight: likewise.
        tv_weight: of `total_variation`, likewise.
        tone: weight of the mean square by which the picture's light and dark is not the
            photograph's (`cbs_plugins.training.style_losses.Tone`).
        equivariance: weight of the mean square by which two views of a photograph, a few pixels
            apart, are styled differently: strokes then move along with what they are on.
        noise: levels of Gaussian noise, at most, of the second view, so that a sensor's becomes no
            strokes; of no effect without ``equivariance``.
        teacher: a weight file of Johnson's net, or the name of a style, whose pictures are learnt
            in place of all that is above but ``equivariance``; None: the losses.

    Raises:
        ConfigError: a value is unknown.
    """

    losses: str = "gatys"
    vgg: int = 19
    content_weight: float | None = number(None, most=1e15)
    style_weight: float | None = number(None, most=1e15)
    tv_weight: float | None = number(None, most=1e15)
    tone: float = number(0.0, most=1e15)
    equivariance: float = number(0.0, most=1e15)
    noise: float = number(0.0, most=255)
    teacher: str | None = None

    def __post_init__(self) -> None:
        _checked_word("losses", self.losses, tuple(LOSSES))
        _checked_word("vgg", str(self.vgg), tuple(map(str, WEIGHTS)))

    @property
    def layers(self) -> Layers:
        """Of the loss net."""
        return LOSSES[self.losses]

    @property
    def weights(self) -> tuple[float, float, float]:
        """Of content, style and variation."""
        content, style, variation = WEIGHTS[self.vgg]
        return (
            content if self.content_weight is None else self.content_weight,
            style if self.style_weight is None else self.style_weight,
            variation if self.tv_weight is None else self.tv_weight,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimisation:
    """How it is minimised.

    Args:
        steps: in all, over which the learning rate falls.
        learning_rate: of Adam.
        schedule: ``cosine``, to a hundredth of it, or ``constant``.
        seed: of the first weights, the order and the crops.
        init: a weight file of the net to start from.
        width: of the net; None takes that of ``init``, else its usual one.

    Raises:
        ConfigError: a value is unknown.
    """

    steps: int
    learning_rate: float = number(1e-3, most=10)
    schedule: str = "cosine"
    seed: int = 0
    init: str | None = None
    width: int | None = number(None, least=1, most=1024)

    def __post_init__(self) -> None:
        _checked_word("schedule", self.schedule, SCHEDULES)


@dataclass(frozen=True, slots=True)
class Recipe:
    """All of it; `cbs_core.training.recipe.bind` fills it."""

    painting: Painting
    photographs: Photographs
    optimisation: Optimisation
    losses: Losses = field(default_factory=Losses)


def _checked_word(key: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise ConfigError(
            f"recipe.{key}={word} is unknown{closest(word, known)} (there are: {', '.join(known)})"
        )
