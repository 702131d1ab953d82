"""Splats drawn on a GPU by gsplat (Ye et al. 2024, 2409.06765; Apache-2.0; extra ``[scene-gpu]``).

The picture is the same linear map of the colours as in `splatting`, but no matrix is kept: gsplat
draws any number of channels, and the gradient of what it draws is the transpose.

Letters: ``N`` splats, ``P`` pixels of a view, ``C`` channels.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from cbs_core.choose.registry import guarded
from cbs_core.contract.errors import PluginContractError
from cbs_core.scene.cameras import Camera
from cbs_core.scene.splatting import BLUR, NEAR, Splatter, Weights
from cbs_core.scene.types import Floats, Splats

TRIED = 64
"""Pixels from left to right of the picture that gsplat's is compared in."""

ALIKE = 2e-3
"""By how much pictures of colours in 0..1 may differ in the mean. gsplat lets an alpha grow to
0.999, Kerbl et al. 2023 and `splatting` to 0.99: an opaque splat hides a hundredth more."""


def splatter(splats: Splats, device: torch.device) -> Splatter:
    """Returns what draws splats: gsplat on a CUDA device where it is installed, else ours."""
    if device.type == "cuda" and find_spec("gsplat") is not None:
        return Rasterizer(splats, device)
    return Splatter(splats, device)


class Rasterizer(Splatter):
    """Draws splats by gsplat; the first picture is compared with one of `Splatter`.

    Args:
        splats: the scene.
        device: where it computes.
    """

    name = "gsplat"

    def __init__(self, splats: Splats, device: torch.device) -> None:
        super().__init__(splats, device)
        self._compared = False

    def weights(self, camera: Camera) -> Weights:
        """Returns the picture's linear map, ``(H*W,N)``.

        Raises:
            PluginLoadError: gsplat fails, as where its kernels were not built.
            PluginContractError: it draws another picture than `Splatter`, or a wrong transpose.
        """
        if not self._compared:
            small = camera.resized(TRIED, max(1, round(TRIED * camera.height / camera.width)))
            _compare(Drawing(self, small), super().weights(small))
            self._compared = True
        return Drawing(self, camera)


class Drawing(LinearOperator):  # type: ignore[misc]
    """What gsplat draws of colours, and its transpose.

    Args:
        scene: whose splats.
        camera: that sees them.
    """

    def __init__(self, scene: Splatter, camera: Camera) -> None:
        super().__init__(np.float32, (camera.height * camera.width, len(scene.means)))
        self.scene, self.camera = scene, camera

    def _matmat(self, colours: Floats) -> Floats:
        with torch.no_grad():
            return self._numpy(self._drawn(self._tensor(colours)))

    def _rmatmat(self, pictures: Floats) -> Floats:
        with torch.enable_grad():
            colours = torch.zeros(
                self.shape[1], pictures.shape[1], device=self.scene.device, requires_grad=True
            )
            drawn = self._drawn(colours)
            (gradient,) = torch.autograd.grad(drawn, colours, self._tensor(pictures))
        return self._numpy(gradient)

    def _drawn(self, colours: Tensor) -> Tensor:
        """Returns ``(P,C)`` of colours ``(N,C)``."""
        from gsplat import rasterization

        scene, camera = self.scene, self.camera
        rotation, place = self._tensor(camera.rotation), self._tensor(camera.position)
        view = torch.eye(4, device=scene.device)
        view[:3, :3], view[:3, 3] = rotation, -rotation @ place
        lens = torch.eye(3, device=scene.device)
        lens[0, 0] = lens[1, 1] = camera.focal
        lens[0, 2], lens[1, 2] = camera.axis
        picture: Any = guarded(
            "gsplat (device=cpu draws without it)",
            rasterization,
            scene.means,
            None,
            None,
            scene.opacities,
            colours,
            view[None],
            lens[None],
            camera.width,
            camera.height,
            near_plane=NEAR,
            eps2d=BLUR,
            covars=scene.covariance,
        )
        flat: Tensor = picture[0].reshape(self.shape[0], -1)
        return flat

    def _tensor(self, values: Floats) -> Tensor:
        array = np.ascontiguousarray(values, dtype=np.float32)
        return torch.from_numpy(array).to(self.scene.device)

    @staticmethod
    def _numpy(values: Tensor) -> Floats:
        return np.asarray(values.cpu().numpy())


def _compare(drawing: Drawing, ours: Weights) -> None:
    """Raises `PluginContractError` where gsplat's picture or its gradient is another one."""
    rng = np.random.default_rng(0)
    colours = rng.random((drawing.shape[1], 3), np.float32)
    picture = rng.random((drawing.shape[0], 3), np.float32)
    drawn = drawing @ colours
    apart = float(np.abs(drawn - ours @ colours).mean())
    # <A c, p> = <c, A^T p>
    one, two = float((drawn * picture).sum()), float((colours * (drawing.T @ picture)).sum())
    if apart > ALIKE or abs(one - two) > 1e-3 * max(abs(one), 1):
        raise PluginContractError(
            f"gsplat draws this scene otherwise than it should ({apart:.4f} in the mean; "
            f"{one:.3f} and {two:.3f} by its gradient): say device=cpu, or take another version"
        )
