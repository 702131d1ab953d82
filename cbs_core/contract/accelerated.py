"""What every accelerator gives back.

Letters: ``B`` batch, ``H W`` the frame.
"""

from collections.abc import Set
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["segmenter", "styler"]
"""What a module is for, which says how a faster one is compared with it."""

Shapes = tuple[tuple[int, ...], ...]
"""The shapes of a module's inputs, in order."""


def shapes(inputs: "tuple[Tensor, ...]") -> Shapes:
    """Returns the shapes of some inputs."""
    return tuple(tuple(one.shape) for one in inputs)


@runtime_checkable
class Accelerated(Protocol):
    """A module made fast. The first input is a picture ``(B,3,H,W)``, others are as they come."""

    @property
    def chosen(self) -> str:
        """What runs it, for the report: ``openvino bf16``; empty where that is not yet known."""
        ...

    @property
    def built(self) -> Set[tuple[int, ...]]:
        """The shapes of the picture that are ready."""
        ...

    def prepare(self, *inputs: "Tensor") -> None:
        """Builds, checks and warms up for the inputs' shapes; nothing where that is done.

        Raises:
            AcceleratorError: it cannot be built, or computes something else than the module.
        """
        ...

    def __call__(self, *inputs: "Tensor") -> Any:
        """Returns what the module returns, a tensor or a tuple of tensors, in float32.

        Shapes that were not prepared are, once.

        Args:
            inputs: float32, on the device.
        """
        ...


@runtime_checkable
class HasDesign(Protocol):
    """An `Accelerated` that knows from others of the same design by what it runs fastest."""

    @property
    def design(self) -> str | None:
        """Names the design; None where nothing is known from others."""
        ...
