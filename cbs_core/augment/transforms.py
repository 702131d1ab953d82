"""Style by class inside a training loop, as a transform of torchvision's v2.

    restyle = Restyle({"road": ["wave", "udnie"], "rest": {"probability": 0.3}}, classes="camvid")
    images, masks = restyle(tv_tensors.Image(images), tv_tensors.Mask(masks))

The masks come out as they went in.

Letters: ``B`` batch, ``H W`` the picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from cbs_core.augment.painter import Painter, with_unlabelled
from cbs_core.augment.rules import Rule, draw, parse
from cbs_core.choose import presets
from cbs_core.choose.sections import Choice, choice
from cbs_core.contract.errors import ConfigError
from cbs_core.machine import device as devices
from cbs_core.run import settings
from cbs_core.run.settings import Look
from cbs_core.run.workshop import Workshop
from cbs_core.words import vocabularies

Plugin = str | Mapping[str, object]
"""A plugin's name, or a mapping of ``name`` and its parameters."""

Classes = str | Sequence[str]
"""A vocabulary's name, or names by id."""


class Restyler:
    """What both kinds of transforms do: draws for each picture, and paints a batch of them.

    Its nets are built on the device of the first pictures, in the process that sees them.

    Args:
        routes: the rules, as ``routes`` of ``cbs-augment``; None is ``everything``.
        classes: of the masks' ids; ids beyond the last are pixels of no class.
        styler: draws the styles.
        edges: the compositor of rules that name none.
        precision: of the nets: ``fp32``, ``fp16``, ``bf16`` or ``auto``.

    Raises:
        CbsError: there is no such class, style or plugin.
    """

    def __init__(
        self,
        routes: object = None,
        classes: Classes = (),
        *,
        styler: Plugin = "johnson",
        edges: Plugin = "hard",
        precision: str = "fp32",
    ) -> None:
        names = vocabularies.get(classes) if isinstance(classes, str) else classes
        if not names:
            raise ConfigError("classes= names none: give a vocabulary, or the names by id")
        self.classes = with_unlabelled([*names])
        fast = settings.accelerator({"accelerator": {"name": "eager"}, "precision": precision})
        self._look = Look(Choice("none"), _chosen("styler", styler), accelerator=fast)
        self._precision = precision
        self.rules: tuple[Rule, ...] = parse(
            routes,
            classes=self.classes,
            styler=self._look.styler,
            edges=_chosen("compositor", edges),
        )
        self._painters: dict[str, Painter] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nets do not travel: another process builds its own."""
        return {**self.__dict__, "_painters": {}}

    def __call__(self, images: Tensor, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Returns pictures restyled.

        Args:
            images: ``(B,3,H,W)``, uint8 or float in [0,1], on any device.
            labels: ``(B,H,W)``, ids.
            seeds: one a picture, which decides what is drawn.

        Raises:
            CbsError: a style cannot be built, or a plugin failed.
        """
        whole = images.dtype == torch.uint8
        levels = images.float().div(255) if whole else images.float()
        draws = [draw(self.rules, np.random.default_rng(seed)) for seed in seeds]
        shown = self._painter(images.device)(levels, draws, labels)
        out = torch.cat([one.image for one in shown])
        return (out.mul(255).round().clamp(0, 255) if whole else out).to(images.dtype)

    def _painter(self, device: torch.device) -> Painter:
        if str(device) not in self._painters:
            dtype = devices.dtype(self._precision, device)
            workshop = Workshop(device, dtype)
            workshop.keep(2 * len(self.rules) + sum(len(rule.pool) for rule in self.rules))
            self._painters[str(device)] = Painter(self._look, self.classes, workshop)
        return self._painters[str(device)]


class Restyle(v2.Transform):  # type: ignore[misc]
    """Restyles classes of pictures by their masks, which stay as they are.

    It takes what transforms of torchvision's v2 take, with one image (``tv_tensors.Image``, a plain
    tensor or a Pillow image; uint8, or float in [0,1]) and one ``tv_tensors.Mask`` of ids: ``(3,H,
    W)`` with ``(H,W)`` or ``(1,H,W)``, or a batch ``(B,3,H,W)`` with ``(B,H,W)`` or ``(B,1,H,W)``.
    A batch is restyled where it lies, on its GPU; each of its pictures draws for itself, and those
    that drew one style run it together. What is drawn comes from torch's global generator, as for
    torchvision's own transforms.

    Args:
        routes: the rules, ``{"road": ["wave", "udnie"], "rest": {"probability": 0.3}}``, as of
            ``cbs-augment``; None is ``everything``.
        classes: of the masks' ids: a vocabulary's name or names by id; ids beyond the last, such as
            255, are pixels of no class.
        more: ``styler``, ``edges`` and ``precision``, as of `Restyler`.

    Raises:
        CbsError: there is no such class, style or plugin.
    """

    def __init__(self, routes: object = None, classes: Classes = (), **more: Any) -> None:
        super().__init__()
        self._restyler = Restyler(routes, classes, **more)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Returns the picture, restyled.

        Raises:
            ConfigError: there is not one picture and one mask of its size.
        """
        masks = [one for one in flat_inputs if isinstance(one, tv_tensors.Mask)]
        images = [one for one in flat_inputs if _is_image(one)]
        if len(masks) != 1 or len(images) != 1:
            raise ConfigError(
                f"Restyle was given {len(images)} images and {len(masks)} masks: give it one image "
                "and one tv_tensors.Mask of class ids"
            )
        (image,), (mask,) = images, masks
        tensor = functional.pil_to_tensor(image) if isinstance(image, Image.Image) else image
        plain = tensor.as_subclass(Tensor)
        batch = plain if plain.ndim == 4 else plain[None]
        labels = mask.as_subclass(Tensor).reshape(-1, *mask.shape[-2:])
        if batch.shape[1] != 3 or labels.shape != (len(batch), *batch.shape[2:]):
            raise ConfigError(
                f"Restyle was given an image {tuple(plain.shape)} and a mask {tuple(mask.shape)}: "
                "(3,H,W) with (H,W), or (B,3,H,W) with (B,H,W), are due"
            )
        seeds = torch.randint(2**63 - 1, (len(batch),)).tolist()
        out = self._restyler(batch, labels, seeds).reshape(plain.shape)
        return {"restyled": out}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Returns the picture in the place of the one given, and anything else as it is."""
        if not _is_image(inpt):
            return inpt
        if isinstance(inpt, Image.Image):
            return functional.to_pil_image(params["restyled"])
        if isinstance(inpt, tv_tensors.TVTensor):
            return tv_tensors.wrap(params["restyled"], like=inpt)
        return params["restyled"]


def _is_image(one: Any) -> bool:
    plain = isinstance(one, Tensor) and not isinstance(one, tv_tensors.TVTensor)
    return plain or isinstance(one, tv_tensors.Image | Image.Image)


def _chosen(kind: str, plugin: Plugin) -> Choice:
    """Returns a plugin with its preset's parameters and those that are given."""
    given = {"name": plugin} if isinstance(plugin, str) else dict(plugin)
    name = choice(given, kind).name
    params = dict(choice({**presets.section(kind, name), **given}, kind).params)
    return Choice(name, params)
