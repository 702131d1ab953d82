"""PLY: a mesh with colours of its vertices, or splats, told by what the header lists."""

from pathlib import Path
from typing import Any

import numpy as np

from cbs_core.contract.errors import SourceError
from cbs_core.machine.files import replace
from cbs_core.scene.rays import needs
from cbs_core.scene.types import (
    OF_VERTICES,
    Mesh,
    MeshFile,
    Painted,
    SplatFile,
    linear,
    srgb,
)
from cbs_plugins.scenes.textures import read

CHANNELS = ("red", "green", "blue")


def load(path: str) -> MeshFile | SplatFile:
    """Opens a ``.ply``, whichever of the three it is.

    Raises:
        SourceError: it is damaged, or a cloud of points, which has no surface.
    """
    data = parsed(Path(path))
    names = {element.name for element in data}
    if "vertex" not in names:
        raise SourceError(f"'{path}' has no vertices: a mesh or splats are due")
    fields = {p.name for p in data["vertex"].properties}
    if "packed_position" in fields:
        from cbs_plugins.scenes.splat_ply import CompressedPly

        return CompressedPly(Path(path), data)
    if {"f_dc_0", "opacity", "scale_0", "rot_0"} <= fields:
        from cbs_plugins.scenes.splat_ply import SplatPly

        return SplatPly(Path(path), data)
    if "face" not in names or not len(data["face"].data):
        raise SourceError(
            f"'{path}' is a cloud of points without faces, which has no surface to restyle: a mesh "
            "or Gaussian splats (f_dc_0, opacity, ...) are due"
        )
    return PlyScene(Path(path), data)


def parsed(path: Path) -> Any:
    """Returns plyfile's ``PlyData``, every element in memory.

    Raises:
        SourceError: it is damaged.
        PluginLoadError: the extra is missing.
    """
    try:
        from plyfile import PlyData
    except ImportError as error:
        raise needs("plyfile") from error
    read(path)  # bounds and readable errors
    try:
        return PlyData.read(str(path), mmap=False)
    except (ValueError, KeyError, IndexError, OSError, MemoryError, StopIteration) as error:
        raise broken(path, error) from error
    except Exception as error:  # PlyParseError derives from Exception alone
        raise broken(path, error) from error


def broken(path: Path, error: Exception) -> SourceError:
    """Returns the error for a damaged file."""
    return SourceError(
        f"'{path}' is no whole PLY ({' '.join(str(error).split()) or type(error).__name__}): get "
        "the file again"
    )


class PlyScene:
    """A PLY mesh (`MeshFile`): restyled at its vertices, as finely as they lie.

    Args:
        path: the file.
        data: plyfile's content of it.

    Raises:
        SourceError: faces name vertices that are not there.
    """

    def __init__(self, path: Path, data: Any) -> None:
        self.path, self._data = path, data
        self._left_out: list[str] = []
        vertex, face = data["vertex"].data, data["face"].data
        name = next((n for n in face.dtype.names or () if n.startswith("vertex_ind")), None)
        if name is None:
            raise SourceError(f"'{path}' has faces without vertex_indices")
        corners = [
            (row[0], row[k], row[k + 1]) for row in face[name] for k in range(1, len(row) - 1)
        ]
        faces = np.array(corners, np.int64).reshape(-1, 3)
        vertices = np.stack([vertex[c].astype(np.float64) for c in "xyz"], 1)
        if not len(faces) or faces.min() < 0 or faces.max() >= len(vertices):
            raise SourceError(f"'{path}' has no faces, or faces of vertices that are not there")
        whole = np.isfinite(vertices[faces]).all((1, 2))
        if not whole.all():
            self._left_out.append(f"{(~whole).sum()} triangles have corners that are no numbers")
        if not whole.any():
            raise SourceError(f"'{path}' has no face with numbers as corners")
        faces = faces[whole]
        vertices[~np.isfinite(vertices).all(1)] = vertices[faces[0, 0]]
        self._scale = 255.0
        colours = np.full((len(vertices), 3), 0.8)
        if all(c in (vertex.dtype.names or ()) for c in CHANNELS):
            kind = vertex["red"].dtype
            self._scale = float(np.iinfo(kind).max) if kind.kind in "iu" else 1.0
            colours = np.stack([vertex[c] / self._scale for c in CHANNELS], 1)
        none = np.zeros(len(faces), np.int64)
        self.mesh = Mesh(
            vertices=vertices,
            faces=faces,
            uv=np.zeros((len(faces), 3, 2)),
            paint=none + OF_VERTICES,
            factor=np.ones((len(faces), 3)),
            colours=linear(np.clip(colours, 0, 1)),
            material=none,
            object=none,
            materials=("none",),
            objects=(path.stem,),
        )

    @property
    def left_out(self) -> tuple[str, ...]:
        """What is in the file and not in the mesh."""
        return tuple(self._left_out)

    def write(self, path: Path, painted: Painted, /) -> list[Path]:
        """Writes the file with other colours of vertices (`MeshFile`); raises `SinkError`."""
        from plyfile import PlyData, PlyElement

        old = self._data["vertex"]
        vertex = old.data
        if painted.colours is not None and painted.vertices is not None:
            if not all(c in (vertex.dtype.names or ()) for c in CHANNELS):
                wider = np.dtype([*vertex.dtype.descr, *((c, "u1") for c in CHANNELS)])
                more = np.zeros(len(vertex), wider)
                for name in vertex.dtype.names:
                    more[name] = vertex[name]
                for c, value in zip(CHANNELS, srgb(self.mesh.colours).T, strict=True):
                    more[c] = np.round(value * 255)
                vertex = more
            vertex, at = vertex.copy(), painted.vertices
            values = srgb(painted.colours[at]) * self._scale
            for c, value in zip(CHANNELS, values.T, strict=True):
                whole = vertex[c].dtype.kind in "iu"
                vertex[c][at] = np.round(value) if whole else value
        element = PlyElement.describe(vertex, "vertex", comments=list(old.comments))
        new = PlyData(
            [element if e.name == "vertex" else e for e in self._data],
            text=self._data.text,
            byte_order=self._data.byte_order,
            comments=list(self._data.comments),
            obj_info=list(self._data.obj_info),
        )
        replace(path, new.write)
        return [path]
