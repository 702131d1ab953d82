"""PLY: a mesh with colours of its vertices, or splats, told by what the header lists."""

from pathlib import Path
from typing import Any

import numpy as np

from cbs_core.contract.errors import SinkError, SourceError
from cbs_core.machine.files import replace
from cbs_core.scene.rays import needs
from cbs_core.scene.types import (
    OF_VERTICES,
    Floats,
    Ints,
    Mesh,
    MeshFile,
    Paint,
    Painted,
    SplatFile,
    linear,
    srgb,
)
from cbs_plugins.scenes.textures import beside, decode, encode, read, told_finite

CHANNELS = ("red", "green", "blue")
TEXTURE = "TextureFile "
PLACES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"))
"""What programs call a vertex's place on the texture."""


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
    """A PLY mesh (`MeshFile`): restyled at its textures, or at its vertices as finely as they lie.

    Textures are as MeshLab writes them: ``comment TextureFile NAME``, and places as a list
    ``texcoord`` a face (with ``texnumber``) or as two numbers a vertex, v upwards.

    Args:
        path: the file; its textures must lie in its folder or below.
        data: plyfile's content of it.

    Raises:
        SourceError: faces name vertices that are not there, or a texture cannot be read.
    """

    def __init__(self, path: Path, data: Any) -> None:
        self.path, self._data = path, data
        self._left_out: list[str] = []
        self._scale = 255.0
        self._textures: list[str] = []
        try:
            self.mesh = self._read(data["vertex"].data, data["face"].data)
        except (ValueError, TypeError, IndexError) as error:
            raise broken(path, error) from error

    @property
    def left_out(self) -> tuple[str, ...]:
        """What is in the file and not in the mesh."""
        return tuple(self._left_out)

    def _read(self, vertex: Any, face: Any) -> Mesh:
        path = self.path
        name = next((n for n in face.dtype.names or () if n.startswith("vertex_ind")), None)
        if name is None:
            raise SourceError(f"'{path}' has faces without vertex_indices")
        lengths = np.array([len(row) for row in face[name]])
        fan, of = _fan(lengths)
        if not len(fan):
            raise SourceError(f"'{path}' has no faces of three corners")
        faces = np.concatenate(list(face[name])).astype(np.int64)[fan]
        vertices = np.stack([vertex[c].astype(np.float64) for c in "xyz"], 1)
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise SourceError(f"'{path}' has faces of vertices that are not there")
        uv, paint, paints = self._painted(vertex, face, faces, fan, of, lengths)
        whole = np.isfinite(vertices[faces]).all((1, 2)) & np.isfinite(uv).all((1, 2))
        if not whole.all():
            self._left_out.append(f"{(~whole).sum()} triangles have corners that are no numbers")
        if not whole.any():
            raise SourceError(f"'{path}' has no face with numbers as corners")
        faces = faces[whole]
        vertices[~np.isfinite(vertices).all(1)] = vertices[faces[0, 0]]
        none = np.zeros(len(faces), np.int64)
        return Mesh(
            vertices=vertices,
            faces=faces,
            uv=uv[whole],
            paint=paint[whole],
            factor=np.ones((len(faces), 3)),
            colours=np.ones((len(vertices), 3)) if paints else self._colours(vertex),
            material=none,
            object=none,
            paints=paints,
            materials=("none",),
            objects=(path.stem,),
        )

    def _colours(self, vertex: Any) -> Floats:
        """Returns the vertices' colours, linear; light grey where there are none."""
        if not _coloured(vertex):
            return linear(np.full((len(vertex), 3), 0.8))
        kind = vertex["red"].dtype
        self._scale = float(np.iinfo(kind).max) if kind.kind in "iu" else 1.0
        colours = np.stack([vertex[c] / self._scale for c in CHANNELS], 1)
        return linear(np.clip(told_finite(colours, self._left_out), 0, 1))

    def _painted(
        self, vertex: Any, face: Any, faces: Ints, fan: Ints, of: Ints, lengths: Ints
    ) -> tuple[Floats, Ints, tuple[Paint, ...]]:
        """Returns places ``(F,3,2)``, the paint of each triangle, and the paints."""
        files = [line[len(TEXTURE) :].strip() for line in self._comments() if _is_texture(line)]
        names = vertex.dtype.names or ()
        pair = next((p for p in PLACES if {*p} <= {*names}), None)
        if not files or ("texcoord" not in (face.dtype.names or ()) and pair is None):
            return np.zeros((*faces.shape, 2)), np.full(len(faces), OF_VERTICES), ()
        if "texcoord" in face.dtype.names:
            if any(len(row) != 2 * n for row, n in zip(face["texcoord"], lengths, strict=True)):
                raise SourceError(f"'{self.path}' has faces without a place for each corner")
            uv = np.concatenate(list(face["texcoord"])).reshape(-1, 2)[fan]
        else:
            assert pair is not None
            uv = np.stack([vertex[c] for c in pair], 1)[faces]
        number = np.zeros(len(faces), np.int64)
        if "texnumber" in face.dtype.names:
            number = face["texnumber"].astype(np.int64)[of]
        if number.min() < 0 or number.max() >= len(files):
            raise SourceError(f"'{self.path}' has faces of textures that it does not name")
        self._textures = list(dict.fromkeys(files))
        paints: list[Paint] = []
        for name in self._textures:
            found = beside(self.path.parent, name, self.path)
            pixels = decode(read(found), f"'{found}'", self._left_out, paints)
            paints.append(Paint(name, pixels))
        which = np.array([self._textures.index(name) for name in files])[number]
        return uv.astype(np.float64) * [1, -1] + [0, 1], which, tuple(paints)

    def _comments(self) -> list[str]:
        held = [*self._data.comments]
        for element in self._data:
            held += element.comments
        return held

    def write(self, path: Path, painted: Painted, /) -> list[Path]:
        """Writes the file with other textures, or other colours of vertices (`MeshFile`).

        Raises:
            SinkError: one cannot be written, or would replace a file of the input's.
        """
        from plyfile import PlyData, PlyElement

        names = dict(zip(self._textures, self.beside(path), strict=True))
        own = [self.path.parent / name for name in self._textures]
        for target in names.values():
            if target.exists() and any(target.samefile(one) for one in own):
                raise SinkError(f"'{target}' is part of the input: choose another output=")

        def renamed(comments: list[str]) -> list[str]:
            return [
                f"{TEXTURE}{names[line[len(TEXTURE) :].strip()].name}"
                if names and _is_texture(line)
                else line
                for line in comments
            ]

        elements = []
        for old in self._data:
            lists = [p for p in old.properties if hasattr(p, "len_dtype")]
            data = self._recoloured(old.data, painted) if old.name == "vertex" else old.data
            lengths = {p.name: p.len_dtype for p in lists}
            values = {p.name: p.val_dtype for p in lists}
            told = renamed(old.comments)
            elements.append(PlyElement.describe(data, old.name, lengths, values, told))
        new = PlyData(
            elements,
            text=self._data.text,
            byte_order=self._data.byte_order,
            comments=renamed(self._data.comments),
            obj_info=list(self._data.obj_info),
        )
        for index, target in enumerate(names.values()):
            pixels = painted.paints.get(index, self.mesh.paints[index].pixels)
            data = encode(pixels, marked=True)
            replace(target, lambda file, data=data: file.write(data))  # type: ignore[misc]
        replace(path, new.write)
        return [path, *names.values()]

    def beside(self, path: Path, /) -> list[Path]:
        """Returns the textures that go with ``path`` (`WritesBeside`)."""
        return [path.with_name(f"{path.stem}_{i}.png") for i in range(len(self._textures))]

    def _recoloured(self, vertex: Any, painted: Painted) -> Any:
        """Returns the vertices with other colours, which they get where they had none."""
        if painted.colours is None or painted.vertices is None:
            return vertex
        if not _coloured(vertex):
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
        return vertex


def _coloured(vertex: Any) -> bool:
    return all(c in (vertex.dtype.names or ()) for c in CHANNELS)


def _is_texture(comment: str) -> bool:
    return comment.startswith(TEXTURE)


def _fan(lengths: Ints) -> tuple[Ints, Ints]:
    """Returns triangles of polygons: ``(F,3)`` places in their joined corners, ``(F,)`` of which.

    Args:
        lengths: corners of each polygon.
    """
    count = np.maximum(lengths - 2, 0)
    of = np.repeat(np.arange(len(lengths)), count)
    start = np.cumsum(lengths) - lengths
    step = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count) + 1
    return np.stack([start[of], start[of] + step, start[of] + step + 1], 1), of
