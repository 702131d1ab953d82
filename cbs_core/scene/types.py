"""The values that 3D scenes are made of, and what a format's plugin gives.

Letters: ``V`` vertices, ``F`` faces, ``N`` splats, ``H W`` a picture, ``D`` coefficients of
spherical harmonics beyond the first: 0, 3, 8 or 15.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[Any]
"""Floating point of either width, which types do not keep apart."""

Ints: TypeAlias = NDArray[Any]
Bytes: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]

OF_VERTICES = -1
"""In `Mesh.paint`: the face has no texture, its colours are its vertices'."""


@dataclass(frozen=True, slots=True, eq=False)
class Paint:
    """A picture that faces are painted with."""

    name: str
    pixels: Bytes
    """``(H,W,3)`` RGB or ``(H,W,4)`` with alpha, sRGB; row 0 is v = 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """All surfaces of a scene in the world's coordinates, y up."""

    vertices: Floats
    """``(V,3)``, finite."""

    faces: Ints
    """``(F,3)`` indices of vertices."""

    uv: Floats
    """``(F,3,2)``, a place in the face's paint for each corner, v downwards; beyond 0..1 it is
    repeated."""

    paint: Ints
    """``(F,)`` index into `paints`, or `OF_VERTICES`."""

    factor: Floats
    """``(F,3)`` linear RGB that the paint is multiplied by."""

    colours: Floats
    """``(V,3)`` linear RGB of the vertices, which multiplies too; 1 where there is none."""

    material: Ints
    """``(F,)`` index into `materials`."""

    object: Ints
    """``(F,)`` index into `objects`."""

    paints: tuple[Paint, ...] = ()
    materials: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Splats:
    """Gaussians as 3DGS has them (Kerbl et al. 2023), in the file's own coordinates."""

    means: Floats
    """``(N,3)``."""

    scales: Floats
    """``(N,3)`` standard deviations along the Gaussian's own axes, positive."""

    rotations: Floats
    """``(N,4)`` unit quaternions, w x y z."""

    opacities: Floats
    """``(N,)`` in [0,1]."""

    colours: Floats
    """``(N,3)`` sRGB of the first coefficient: 0.5 + 0.28209479 f_dc; may lie beyond 0..1."""

    harmonics: Floats
    """``(N,D,3)`` further coefficients."""

    up: tuple[float, float, float] = (0.0, -1.0, 0.0)
    """The direction that is up: -y by the habit of 3DGS's files."""


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """What a mesh's restyling changes."""

    paints: Mapping[int, Bytes] = field(default_factory=dict)
    """The new pixels of each paint that changes, of as many channels; where all that a paint is on
    is restyled, its sides may be 2 or 4 times as long."""

    colours: Floats | None = None
    """``(V,3)`` linear RGB, or None where no vertex changes."""

    vertices: Mask | None = None
    """``(V,)`` which vertices change."""


@runtime_checkable
class MeshFile(Protocol):
    """A mesh as a file holds it; built by a plugin of ``cbs.scenes`` from the file's path."""

    mesh: Mesh

    @property
    def left_out(self) -> tuple[str, ...]:
        """What the file holds and the mesh does not, a line each: it stays in the file as it is."""
        ...

    def write(self, path: Path, painted: Painted, /) -> list[Path]:
        """Writes the file anew with other colours, and everything else as it was.

        Returns:
            The files written; ``path`` is the first.

        Raises:
            SinkError: one cannot be written.
        """
        ...


@runtime_checkable
class SplatFile(Protocol):
    """Splats as a file holds them; built by a plugin of ``cbs.scenes`` from the file's path."""

    splats: Splats

    @property
    def left_out(self) -> tuple[str, ...]:
        """As in `MeshFile`."""
        ...

    def write(self, path: Path, touched: Mask, colours: Floats, flat: bool, /) -> list[Path]:
        """Writes the file anew with other colours, and everything else as it was.

        Args:
            path: the file.
            touched: ``(N,)`` which splats change; the others stay to the bit.
            colours: ``(N,3)`` as in `Splats`.
            flat: whether the touched ones lose their further harmonics, so that they look the
                same from every side.

        Returns:
            The files written; ``path`` is the first.

        Raises:
            SinkError: it cannot be written.
        """
        ...


@runtime_checkable
class WritesBeside(Protocol):
    """A scene's file that is written as several."""

    def beside(self, path: Path, /) -> list[Path]:
        """Returns the files that `write` of ``path`` writes beside it."""
        ...


SceneFile: TypeAlias = MeshFile | SplatFile


def linear(srgb: Floats) -> Floats:
    """Returns linear values of sRGB ones in [0,1] (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def srgb(linear: Floats) -> Floats:
    """Returns sRGB values in [0,1] of linear ones, which are clipped to it."""
    x = np.clip(linear, 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
