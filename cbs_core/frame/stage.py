"""A plugin as the pipeline calls it: what it raises and returns is told by its package's name.

Shapes and types are looked at in each call. To look at values a GPU has to be waited for, and to
see what became of the inputs they have to be copied, so that is done on the first frame, the first
of each size (what is padded first may be changed in place in vain), and on every `EVERY`th; on the
host, where nothing has to be waited for, the values of each frame are, and some of its inputs'.
"""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cbs_core.choose.registry import guarded
from cbs_core.contract.errors import CbsError, PluginContractError, error_line, error_words
from cbs_core.contract.interfaces import Resettable, Stateful
from cbs_core.machine.device import fetch
from cbs_core.machine.dumps import calling
from cbs_core.machine.folder import staying
from cbs_core.temporal.state import Memory, Untold

NO_ENGINE = "unable to find an engine"
"""What cuDNN says where none of its algorithms gets the memory that it wants. One that cannot
compute at all says so too, but to `cbs_core.machine.device.choose`, before there is a frame."""

EVERY = 64
"""Calls of a plugin from one close look at it to the next."""

ROUNDING = 0.5 / 255
"""By how much a picture may lie outside of [0,1]: less than 8 bits can tell."""


SPREAD = (31, 37)
"""Rows and columns from one value to the next that is looked at between close looks, on a CPU."""


def _spread(tensor: Tensor, step: tuple[int, int]) -> Tensor:
    return tensor[..., :: step[0], :: step[1]] if tensor.ndim > 1 else tensor


@dataclass(slots=True)
class Turn:
    """Counts calls to the next close look, which is due until one has been taken, of each size."""

    left: int = 0
    sizes: set[torch.Size] = field(default_factory=set)

    def due(self, image: Tensor) -> bool:
        """Whether a call on such a picture is to be looked at closely."""
        return self.left <= 0 or image.shape not in self.sizes

    def step(self, image: Tensor) -> None:
        """Counts a call."""
        if not self.due(image):
            self.left -= 1
            return
        self.left = EVERY - 1
        if len(self.sizes) >= EVERY:
            self.sizes.clear()
        self.sizes.add(image.shape)


@dataclass(frozen=True, slots=True)
class Stage:
    """A plugin's callable and the words that an error names it with."""

    call: Callable[..., object]
    what: str
    """``styler 'pastel' of cbs-pastel 0.1.0``."""

    bytes_per_pixel: int = 0
    """Of working memory, in the precision that it runs in."""

    recall: "Recall | None" = None
    """Where the plugin has a state from frame to frame."""

    _inputs: Turn = field(default_factory=Turn, repr=False, compare=False)
    _values: Turn = field(default_factory=Turn, repr=False, compare=False)

    def run(self, image: Tensor, *more: object) -> object:
        """Runs the plugin.

        Raises:
            PluginContractError: it raised, or wrote into what it was given.
        """
        given = [one for one in (image, *more) if isinstance(one, Tensor)]
        step = (1, 1) if self._inputs.due(image) else SPREAD
        seen = [] if image.is_cuda and step == SPREAD else given
        before = [(one, one.shape, _spread(one, step).clone()) for one in seen]
        out = self._run(image, *more)
        for now, size, was in before:
            if now.shape != size or not bool(fetch((was == _spread(now, step)).all())):
                raise PluginContractError(
                    f"the {self.what} changed in place what it was given, {shape(now)}: it must "
                    "make a new tensor; mend that package, or choose another plugin"
                )
        self._inputs.step(image)
        return out

    def _run(self, image: Tensor, *more: object) -> object:
        try:
            with staying():
                return calling(self.what, self.call, image, *more)
        except (CbsError, torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # of the machine, not of the plugin
        except KeyboardInterrupt:
            raise  # the user's
        except BaseException as error:  # a stranger's code may raise anything, sys.exit(0) too
            if NO_ENGINE in (words := error_words(error)):
                raise torch.OutOfMemoryError(words) from error
            raise PluginContractError(
                f"the {self.what} failed on a frame of {shape(image)} ({error_line(error)})"
            ) from error

    def __call__(self, image: Tensor, *more: object) -> Tensor:
        """Runs a plugin that returns a tensor.

        Raises:
            PluginContractError: it raised, or returned none.
        """
        out = self.run(image, *more)
        if not isinstance(out, Tensor) or out.is_nested or out.layout is not torch.strided:
            what = type(out).__name__
            if isinstance(out, Tensor):
                what = "a nested tensor" if out.is_nested else str(out.layout)
            raise PluginContractError(f"the {self.what} returned {what} where a tensor is due")
        if out.is_complex():
            raise PluginContractError(
                f"the {self.what} returned {kind(out)} where real numbers are due"
            )
        return out

    def picture(self, image: Tensor, *more: object) -> Tensor:
        """Runs a plugin that returns a picture like ``image``.

        Raises:
            PluginContractError: it raised, or returned something else.
        """
        return self.like(self(image, *more), image)

    def like(self, out: Tensor, image: Tensor) -> Tensor:
        """Returns ``out``, a picture of the shape, dtype and device of ``image``.

        It is finite, so that where its matte is 0 a blend leaves the picture as it was: NaN times 0
        is NaN. On a GPU, between two close looks, what is not finite becomes 0 or 1.

        Raises:
            PluginContractError: it is none, or has values outside of [0,1].
        """
        if out.shape != image.shape:
            raise PluginContractError(
                f"the {self.what} returned {shape(out)} where {shape(image)} is due"
            )
        if kind(out) != kind(image):
            raise PluginContractError(
                f"the {self.what} returned {kind(out)} where {kind(image)} is due"
            )
        if self._passes(out):
            return torch.nan_to_num(out, nan=0.0, posinf=1.0, neginf=0.0)
        self._bounded(out, "a picture in [0,1] is")
        return out

    def scores(self, out: Tensor) -> Tensor:
        """Returns ``out``, logits, which must be finite.

        Raises:
            PluginContractError: they are not.
        """
        if not self._passes(out):
            self._range(out)
        return out

    def masks(self, out: Tensor) -> None:
        """Looks at masks, which must be in [0,1].

        Raises:
            PluginContractError: they are not.
        """
        if not self._passes(out):
            self._bounded(out, "masks in [0,1] are")

    def _passes(self, out: Tensor) -> bool:
        """Tells whether values are not waited for now, and counts such a call."""
        if not out.is_cuda or self._values.due(out):
            return False
        self._values.step(out)
        return True

    def _bounded(self, out: Tensor, what: str) -> None:
        low, high = self._range(out)
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise PluginContractError(
                f"the {self.what} returned values from {low:.4g} to {high:.4g} where {what} "
                "due: mend that package, or choose another plugin"
            )

    def _range(self, out: Tensor) -> tuple[float, float]:
        """Returns the least and the greatest value; waits for the device.

        Raises:
            PluginContractError: one is NaN or infinite.
        """
        if not out.numel():
            return 0.0, 0.0
        # What lies as channels_last would be copied to be read in another order.
        lying = out.ndim == 4 and out.is_contiguous(memory_format=torch.channels_last)
        ordered = out.permute(0, 2, 3, 1) if lying else out
        low, high = fetch(torch.stack(torch.aminmax(ordered))).tolist()
        if not math.isfinite(low) or not math.isfinite(high):
            raise PluginContractError(
                f"the {self.what} returned NaN or infinity in {shape(out)}: its weights or a "
                "parameter may be wrong; choose others, or say precision=fp32"
            )
        self._values.step(out)
        return low, high

    def at(self, memory: Memory) -> None:
        """Brings the plugin, where it has a state, to a memory of it; None is the start.

        Raises:
            PluginContractError: it cannot be brought there.
        """
        if self.recall is not None:
            self.recall.bring(memory)

    def memory(self) -> Memory:
        """Returns where the plugin's state is now, to go on from; None without one."""
        return None if self.recall is None else self.recall.now()


_UNKNOWN: Memory = Untold("plugin")


class Recall:
    """A plugin's own state as a value: asked for after each frame, given back where it is not it.

    A plugin that has only ``reset`` can go on, and begin anew, and nothing else.

    Args:
        plugin: has the state.
        what: names it in errors.
    """

    def __init__(self, plugin: Resettable, what: str) -> None:
        self._plugin = plugin
        self._what = what
        self._at: Memory = None
        self._lock = threading.Lock()

    @property
    def told(self) -> bool:
        """Whether the state is a value, by which a stream can be gone on with elsewhere."""
        return isinstance(self._plugin, Stateful)

    def bring(self, memory: Memory) -> None:
        """Brings the plugin to a memory.

        Raises:
            PluginContractError: it has no ``restore``, and is somewhere else.
        """
        with self._lock:
            at, self._at = self._at, _UNKNOWN  # until the frame is through, or where it fails
            if memory is at:
                return
            if memory is None:
                guarded(f"the {self._what}", self._plugin.reset)
            elif isinstance(self._plugin, Stateful) and not isinstance(memory, Untold):
                assert isinstance(memory, Mapping)
                guarded(f"the {self._what}", self._plugin.restore, memory)
            else:
                raise PluginContractError(
                    f"the {self._what} cannot go on from an earlier frame's state: it has reset(), "
                    "but not state() and restore()"
                )

    def now(self) -> Memory:
        """Returns where the plugin is after the frame that it has just seen."""
        with self._lock:
            told = None
            if isinstance(self._plugin, Stateful):
                told = guarded(f"the {self._what}", self._plugin.state)
            self._at = Untold(self._what) if told is None else told
            return self._at


def kind(tensor: Tensor) -> str:
    """Returns dtype and device in words."""
    return f"{str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"


def shape(tensor: Tensor) -> str:
    """Returns ``(1, 3, 64, 96)``."""
    return f"({', '.join(map(str, tensor.shape))})"
