"""What is timed: the framework through its public configuration, and the reference flow.

The segmenter is the package's own DABNet, because the precision in which a trained net's labels
agree with float32's is what a user gets; the matte of the wanted share is planted in its logits.
The style nets have random weights, because the package has none of width 32: time does not depend
on them. What they paint is spread over the range, so that a wrong picture differs from a right one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
import torch.nn.functional as F
from cbs_plugins.nets.dabnet import MEANS, DABNet
from cbs_plugins.nets.johnson import TransformerNet
from cbs_plugins.sources.sample import sample_file
from hydra.errors import HydraException
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from benchmarks.peers.reference_flow import ReferenceFlow
from cbs_core.choose import presets as confsearch
from cbs_core.choose import registry
from cbs_core.choose.sections import split
from cbs_core.contract.errors import CbsError
from cbs_core.contract.types import RawFrame
from cbs_core.frame.pipeline import Result
from cbs_core.machine import device
from cbs_core.machine.meter import Meter
from cbs_core.run import workshop
from cbs_core.run.stream import Stream

CLASS = "car"
STRIDE = 8
"""Pixels a logit of DABNet."""

FRAME_BY_FRAME = ("device=cpu", "scheduler=serial")
"""For ratios of single frames; `scheduler=auto` may choose otherwise from run to run."""

CERTAIN = 1e4
"""Far above any logit that an untrained net gives."""


class NotOfferedError(Exception):
    """This version has no such plugin, key or value, or it cannot be used here; says which."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A frame and the matte in it."""

    height: int
    width: int
    share: float = 1.0
    """Of the frame that the matte covers."""

    objects: int = 1
    """Squares that the matte consists of, side by side; none where the share is 0."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A segmenter, to whose logits the objects of a scene are added.

    That is done behind the accelerator, which compares the segmenter's own labels with float32's.
    """

    segment: Callable[..., object]
    plan: Tensor
    """``(1,K,h,w)``."""

    def __call__(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> logits at an eighth."""
        logits: Any = self.segment(image)
        return logits + F.interpolate(self.plan, logits.shape[2:])


def plan(scene: Scene, classes: Sequence[str]) -> Tensor:
    """Returns the objects of a scene as logits ``(1,K,h,w)``."""
    h, w = -(-scene.height // STRIDE), -(-scene.width // STRIDE)
    logits = torch.zeros(1, len(classes), h, w)
    matte = logits[0, classes.index(CLASS)]
    matte -= CERTAIN
    area = scene.share * h * w / scene.objects
    rows = min(h, round(area**0.5))
    columns = min(w // scene.objects, round(area / max(1, rows)))
    top = (h - rows) // 2
    for index in range(scene.objects):
        left = w * (2 * index + 1) // (2 * scene.objects) - columns // 2
        matte[top : top + rows, left : left + columns] = CERTAIN
    return logits


def frame(scene: Scene) -> RawFrame:
    """Returns a photograph of the scene's size: on it the nets are compared with float32.

    On this one DABNet's labels in bf16 are clearly not close enough. On others they are at the very
    limit, and a ratio would be one of two by chance.
    """
    photograph = Image.open(sample_file("astronaut")).convert("RGB")
    pixels = np.array(photograph.resize((scene.width, scene.height)))
    return RawFrame(torch.from_numpy(pixels), 0)


class Nets:
    """Style nets of random weights in a folder, the same for ours and for the reference.

    Args:
        folder: for the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def styler(self, width: int) -> Path:
        """Returns the file of the style net of a width."""
        path = self.folder / f"style_{width}.pth"
        if not path.exists():
            torch.manual_seed(0)
            tensors = TransformerNet(width).state_dict()
            tensors["deconv3.conv2d.weight"].mul_(60)
            tensors["deconv3.conv2d.bias"].fill_(128)
            torch.save(tensors, path)
        return path

    def reference(self, scene: Scene) -> Callable[[], tuple[Tensor, Tensor]]:
        """Returns the reference flow on a scene: both nets on the whole frame, width 32."""
        tensors = torch.load(self.styler(32), weights_only=True)
        dabnet = DABNet(19).state_dict()  # as many classes as the paper's
        flow = ReferenceFlow(dabnet, tensors, width=32, mean=MEANS["cityscapes"])
        image = frame(scene).pixels.permute(2, 0, 1)[None].float() / 255
        return lambda: flow(image)


@dataclass(slots=True)
class Ours:
    """The framework on one frame, again and again: uint8 in, uint8 out, without codecs.

    The frame never changes, so statistics that outlive a frame are never measured anew.
    """

    stream: Stream
    scheduler: Any
    meter: Meter
    raw: RawFrame
    matte: Tensor | None = field(default=None, init=False, repr=False)
    """``(H,W)``, where the matte really was; known after a frame."""

    @property
    def share(self) -> float:
        """Of the frame that the matte really covered."""
        return 0.0 if self.matte is None else float(self.matte.float().mean())

    def __call__(self) -> RawFrame:
        """Restyles the frame."""
        self.scheduler.submit(self.raw)
        done: RawFrame
        (done,) = self.scheduler.drain()
        return done

    def close(self) -> None:
        """Ends the threads of a scheduler that has some."""
        if close := getattr(self.scheduler, "close", None):
            close()

    def observe(self, _: RawFrame, result: Result) -> None:
        """Notes the first frame's matte."""
        if self.matte is None:
            self.matte = result.mattes[0, 0] > 0.5


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the configuration that ``cbs-run`` would make of these words.

    Raises:
        NotOfferedError: it has no such key or plugin.
    """
    confsearch.install()
    with hydra.initialize_config_dir(str(confsearch.conf_dir()), version_base="1.3"):
        try:
            # Speeds are of frames segmented and styled as they are, unless a row says otherwise.
            sizes = [
                f"{key}=null"
                for key in ("segment_size", "style_size")
                if not any(one.startswith(f"{key}=") for one in overrides)
            ]
            config = hydra.compose("config", [*overrides, *sizes])
        except HydraException as error:
            raise NotOfferedError(_line(error)) from error
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return dict(plain)


def ours(
    nets: Nets,
    scene: Scene,
    width: int,
    overrides: Sequence[str],
    *,
    meter: Meter | None = None,
) -> Ours:
    """Builds the framework for a scene and runs it once.

    Args:
        nets: the weights.
        scene: the frame.
        width: of the style net.
        overrides: as typed after ``cbs-run``: ``accelerator=eager``, ``styler.where=mask``.
        meter: times its stages; None is a new one.

    Raises:
        NotOfferedError: this version has no such thing, or it cannot be used here.
    """
    config = compose(overrides)
    config["routes"] = [CLASS]
    # What the peers compute is the net's own picture, grid and all.
    config["styler"] |= {"weights": str(nets.styler(width)), "grid": True}
    config["segmenter"] = {"name": "dabnet", "weights": None, "vocabulary": "voc"}
    name, params = split(config["scheduler"], "scheduler")
    try:
        place = device.choose(str(config["device"])).device
        dtype = device.dtype(str(config["precision"]), place)
        built = workshop.plan(config, device=place, dtype=dtype)
        stage = built.segmenter
        planted = Planted(stage.call, plan(scene, built.classes).to(place))
        stream = Stream(replace(built, segmenter=replace(stage, call=planted)))
        meter = meter or Meter()
        made = Ours(stream, None, meter, frame(scene))
        made.scheduler = registry.schedulers.create(
            name, stream=stream, meter=meter, observe=made.observe, **params
        )
        made()
    except CbsError as error:
        raise NotOfferedError(_line(error)) from error
    return made


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
