"""Style by class as a transform of albumentations (extra ``[albumentations]``).

    compose = A.Compose([Restyle({"road": ["wave", "udnie"]}, classes="camvid", p=0.5)])
    made = compose(image=image, mask=mask)

Letters: ``H W`` the picture.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from cbs_core.augment.transforms import Classes, Restyler
from cbs_core.contract.errors import ConfigError

try:
    from albumentations.core.transforms_interface import DualTransform
except ImportError as error:
    raise ConfigError(
        "albumentations is not installed: pip install 'class-based-styling[albumentations]'"
    ) from error


class Restyle(DualTransform):  # type: ignore[misc]
    """Restyles classes of a picture by its mask; masks, boxes and keypoints stay as they are.

    Args:
        routes: as of `cbs_core.augment.transforms.Restyle`.
        classes: likewise; the mask ``(H,W)`` or ``(H,W,1)`` holds their ids.
        p: the probability that it is done at all.
        more: ``styler``, ``edges`` and ``precision``, likewise.

    Raises:
        CbsError: there is no such class, style or plugin.
    """

    class InitSchema(DualTransform.InitSchema):  # type: ignore[misc]
        """The library would look at our parameters; they are looked at by `Restyler`."""

        model_config: ClassVar[dict[str, Any]] = {"extra": "allow", "arbitrary_types_allowed": True}

    def __init__(
        self, routes: object = None, classes: Classes = (), p: float = 1.0, **more: Any
    ) -> None:
        super().__init__(p=p)
        self.routes, self.more = routes, more
        self.names = classes if isinstance(classes, str) else [*classes]
        self._restyler = Restyler(routes, classes, **more)

    @property
    def targets_as_params(self) -> list[str]:
        """What decides how a picture is restyled."""
        return ["image", "mask"]

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Returns the picture, restyled; the library's generator decides what is drawn.

        Raises:
            ConfigError: the picture or the mask is of another shape than due.
        """
        image, mask = np.asarray(data["image"]), np.asarray(data["mask"])
        labels = mask[..., 0] if mask.ndim == 3 and mask.shape[2] == 1 else mask
        if image.ndim != 3 or image.shape[2] != 3 or labels.shape != image.shape[:2]:
            raise ConfigError(
                f"Restyle was given an image {image.shape} and a mask {mask.shape}: (H,W,3) and "
                "(H,W) are due"
            )
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        ids = torch.from_numpy(np.ascontiguousarray(labels).astype(np.int64))[None]
        seed = int(self.random_generator.integers(2**63 - 1))
        out = self._restyler(pixels, ids, [seed])[0].permute(1, 2, 0)
        return {"restyled": np.ascontiguousarray(out.numpy())}

    def apply(self, img: NDArray[Any], restyled: NDArray[Any], **params: Any) -> NDArray[Any]:
        """Returns the restyled picture."""
        return restyled

    def apply_to_mask(self, mask: NDArray[Any], *args: Any, **params: Any) -> NDArray[Any]:
        """Returns the mask itself."""
        return mask

    def apply_to_bboxes(self, bboxes: NDArray[Any], *args: Any, **params: Any) -> NDArray[Any]:
        """Returns the boxes themselves."""
        return bboxes

    def apply_to_keypoints(
        self, keypoints: NDArray[Any], *args: Any, **params: Any
    ) -> NDArray[Any]:
        """Returns the points themselves."""
        return keypoints

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        """Returns what the library tells a transform by."""
        return ("routes", "names", "more")
