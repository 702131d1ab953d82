"""Wavefront OBJ with its MTL: the text stays, names of textures and colours of vertices change.

Letters: ``V`` vertices, ``F`` faces.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cbs_core.contract.errors import SinkError, SourceError
from cbs_core.machine.files import MARK, replace
from cbs_core.scene.types import OF_VERTICES, Floats, Mesh, Paint, Painted, linear, srgb
from cbs_plugins.scenes.textures import (
    beside,
    decode,
    encode,
    inside,
    is_there,
    read,
    told_finite,
)


@dataclass(slots=True)
class _Material:
    """What a ``newmtl`` says that is seen."""

    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: str | None = None


@dataclass(slots=True)
class _Rows:
    """Faces as they are read."""

    corners: list[tuple[int, int, int]] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    material: list[int] = field(default_factory=list)
    object: list[int] = field(default_factory=list)


class ObjScene:
    """An OBJ scene (`MeshFile`). A face without a texture has its vertices' colours.

    Args:
        path: the ``.obj``; materials and textures must lie in its folder or below.

    Raises:
        SourceError: it is damaged, holds no faces, or needs a file from elsewhere.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._left_out: list[str] = []
        self._lines = read(self.path).decode("utf-8", "surrogateescape").splitlines(keepends=True)
        self._libraries: dict[str, list[str]] = {}
        self._known: dict[str, _Material] = {}
        self._textures: dict[str, int] = {}
        self._paints: list[Paint] = []
        self._vertex_lines: list[int] = []
        try:
            self.mesh = self._read()
        except (ValueError, IndexError, OverflowError) as error:
            raise SourceError(
                f"'{path}' is damaged ({' '.join(str(error).split())}): export it anew"
            ) from error

    @property
    def left_out(self) -> tuple[str, ...]:
        """What is in the file and not in the mesh."""
        return tuple(dict.fromkeys(self._left_out))

    def _read(self) -> Mesh:
        points: list[list[float]] = []
        places: list[list[float]] = []
        rows = _Rows()
        materials, objects = ["none"], ["none"]
        current, thing = 0, 0
        for number, key, rest in _statements(self._lines):
            if key == "v":
                points.append([float(word) for word in rest.split()])
                if len(points[-1]) < 3:
                    raise ValueError(f"vertex {len(points)} has {len(points[-1])} numbers")
                self._vertex_lines.append(number)
            elif key == "vt":
                places.append([float(word) for word in [*rest.split(), "0"][:2]])
            elif key == "f":
                self._face(rest, rows, len(points), len(places), current, thing)
            elif key == "usemtl":
                current = _number(materials, rest.strip())
            elif key in ("o", "g") and rest.strip():
                thing = _number(objects, rest.strip())
            elif key == "mtllib":
                self._library(rest.strip())
            elif key in ("l", "p", "curv", "surf"):
                self._left_out.append(f"its elements '{key}' are no faces and are not restyled")
        if not rows.corners:
            raise SourceError(f"'{self.path}' holds no faces: a mesh is due")
        return self._mesh(points, places, rows, materials, objects)

    def _face(
        self, rest: str, rows: _Rows, points: int, places: int, material: int, thing: int
    ) -> None:
        corners = [word.split("/") for word in rest.split()]
        at = [_index(corner[0], points) for corner in corners]
        uv = [
            _index(corner[1], places) if len(corner) > 1 and corner[1] else -1 for corner in corners
        ]
        for k in range(1, len(at) - 1):
            rows.corners.append((at[0], at[k], at[k + 1]))
            rows.places.append((uv[0], uv[k], uv[k + 1]))
            rows.material.append(material)
            rows.object.append(thing)

    def _library(self, name: str) -> None:
        path = inside(self.path.parent, name, self.path)
        if not is_there(path):
            self._left_out.append(f"'{name}' is not there: its materials are taken for white")
            return
        lines = read(path).decode("utf-8", "surrogateescape").splitlines(keepends=True)
        self._libraries[name] = lines
        material = _Material()
        for line in lines:
            key, *more = line.split("#")[0].split(None, 1) or [""]
            rest = "".join(more).strip()
            if key == "newmtl":
                material = self._known[rest] = _Material()
            elif key == "Kd" and len(rest.split()) == 3:
                r, g, b = (float(word) for word in rest.split())
                if not np.isfinite([r, g, b]).all():
                    raise ValueError(f"the colour '{rest}' is no numbers")
                material.colour = (r, g, b)
            elif key == "map_Kd":
                material.texture = self._texture(_file_name(rest))

    def _texture(self, name: str) -> str:
        if name not in self._textures:
            path = beside(self.path.parent, name, self.path)
            self._textures[name] = len(self._paints)
            # Row 0 of a picture is v = 1 in OBJ; in a mesh's places it is v = 0.
            pixels = decode(read(path), f"'{path}'", self._left_out, self._paints)
            self._paints.append(Paint(name, pixels))
        return name

    def _mesh(
        self,
        points: list[list[float]],
        places: list[list[float]],
        rows: _Rows,
        materials: list[str],
        objects: list[str],
    ) -> Mesh:
        vertices = np.array([point[:3] for point in points], float)
        colours = np.array([p[3:6] if len(p) >= 6 else (1.0, 1.0, 1.0) for p in points], float)
        colours = told_finite(colours, self._left_out)
        faces, place = np.array(rows.corners), np.array(rows.places)
        material = np.array(rows.material)
        uv = np.zeros((*faces.shape, 2))
        if places:
            uv = np.where((place >= 0)[..., None], np.array(places)[place] * [1, -1] + [0, 1], 0)
        known = [self._known.get(name, _Material()) for name in materials]
        paint = np.array(
            [self._textures[m.texture] if m.texture is not None else OF_VERTICES for m in known]
        )[material]
        paint[(place < 0).any(1)] = OF_VERTICES
        factor = np.array([linear(np.clip(m.colour, 0, 1)) for m in known])[material]
        whole = np.isfinite(vertices[faces]).all((1, 2)) & np.isfinite(uv).all((1, 2))
        if not whole.all():
            self._left_out.append(f"{(~whole).sum()} triangles have corners that are no numbers")
        if not whole.any():
            raise SourceError(f"'{self.path}' has no face with numbers as corners")
        vertices[~np.isfinite(vertices).all(1)] = vertices[faces[whole][0, 0]]
        # Vertices without a colour of their own take their material's, which they then replace.
        plain = paint == OF_VERTICES
        bare = np.array([len(point) < 6 for point in points])
        for k in range(3):
            own = plain & bare[faces[:, k]]
            colours[faces[own, k]] = srgb(factor[own])
        factor = np.where(plain[:, None], 1.0, factor)
        return Mesh(
            vertices=vertices,
            faces=faces[whole],
            uv=uv[whole],
            paint=paint[whole],
            factor=factor[whole],
            colours=_only(linear(np.clip(colours, 0, 1)), faces[plain]),
            material=material[whole],
            object=np.array(rows.object)[whole],
            paints=tuple(self._paints),
            materials=tuple(materials),
            objects=tuple(objects),
        )

    def write(self, path: Path, painted: Painted, /) -> list[Path]:
        """Writes OBJ, MTL and the textures, named after the output (`MeshFile`).

        Raises:
            SinkError: one cannot be written, or would replace a file of the input's.
        """
        lines = list(self._lines)
        if painted.colours is not None and painted.vertices is not None:
            colours = srgb(painted.colours)
            for vertex in np.flatnonzero(painted.vertices).tolist():
                _colour(lines, self._vertex_lines[vertex], colours[vertex])
        renamed, libraries = self._names(path)
        outputs: dict[Path, bytes] = {}
        for number, line in enumerate(lines):
            key, *rest = line.split(None, 1) or [""]
            if key == "mtllib" and (name := "".join(rest).strip()) in libraries:
                lines[number] = _put(line, name, libraries[name])
        outputs[path] = "".join(lines).encode("utf-8", "surrogateescape")
        for name, own in libraries.items():
            text = [f"# Written by {MARK.decode()}.\n"]
            text += [self._renamed(line, renamed) for line in self._libraries[name]]
            outputs[path.with_name(own)] = "".join(text).encode("utf-8", "surrogateescape")
        for name, index in self._textures.items():
            pixels = painted.paints.get(index, self._paints[index].pixels)
            outputs[path.with_name(renamed[name])] = encode(pixels, marked=True)
        self._guard(outputs)
        for target, data in outputs.items():
            replace(target, lambda file, data=data: file.write(data))  # type: ignore[misc]
        return list(outputs)

    def _names(self, path: Path) -> tuple[dict[str, str], dict[str, str]]:
        """Returns the new names of textures and libraries."""
        renamed = {name: f"{path.stem}_{index}.png" for name, index in self._textures.items()}
        libraries = {
            name: f"{path.stem}{f'_{i}' if i else ''}.mtl" for i, name in enumerate(self._libraries)
        }
        return renamed, libraries

    def beside(self, path: Path, /) -> list[Path]:
        """Returns MTL and textures that go with ``path`` (`WritesBeside`)."""
        return [path.with_name(name) for names in self._names(path) for name in names.values()]

    def _renamed(self, line: str, renamed: dict[str, str]) -> str:
        told, sign, comment = line.partition("#")
        key, *rest = told.split(None, 1) or [""]
        if key != "map_Kd":
            return line
        name = _file_name("".join(rest).strip())
        return _put(told, name, renamed[name]) + sign + comment

    def _guard(self, outputs: dict[Path, bytes]) -> None:
        own = [self.path, *(self.path.parent / n for n in (*self._libraries, *self._textures))]
        for target in outputs:
            if target.exists() and any(target.samefile(path) for path in own if path.exists()):
                raise SinkError(f"'{target}' is part of the input: choose another output=")


def _statements(lines: list[str]) -> Iterator[tuple[int, str, str]]:
    r"""Yields the number of a line, its first word and what follows; ``\\`` goes on in the next."""
    start = 0
    parts: list[str] = []
    for number, line in enumerate(lines):
        text = line.rstrip("\r\n")
        if not parts:
            start = number
            if text.lstrip().startswith("#"):  # which may end in a folder's name, C:\
                continue
        parts.append(text.removesuffix("\\"))
        if text.endswith("\\") and number + 1 < len(lines):
            continue
        key, *rest = " ".join(parts).split(None, 1) or [""]
        parts = []
        # Names may hold the sign of a comment, numbers do not.
        yield start, key, "".join(rest).split("#")[0] if key in ("v", "vt", "f") else "".join(rest)


def _colour(lines: list[str], number: int, colour: Floats) -> None:
    """Gives the vertex that begins in a line a colour, on that line alone."""
    last = number
    while lines[last].rstrip("\r\n").endswith("\\") and last + 1 < len(lines):
        last += 1
    told = [line.rstrip("\r\n").removesuffix("\\") for line in lines[number : last + 1]]
    words = " ".join(told).split("#")[0].split()[:4]
    end = lines[last][len(lines[last].rstrip()) :]
    lines[number] = " ".join([*words, *(f"{value:.6f}" for value in colour)]) + end
    lines[number + 1 : last + 1] = [""] * (last - number)


def _file_name(rest: str) -> str:
    """Returns the file of a ``map_Kd``, whose options stand before it."""
    return rest.split()[-1] if rest.startswith("-") else rest


def _put(line: str, old: str, new: str) -> str:
    """Returns a line with another name at its end."""
    before, _, after = line.rpartition(old)
    return before + new + after


def _number(known: list[str], name: str) -> int:
    if name not in known:
        known.append(name)
    return known.index(name)


def _index(word: str, count: int) -> int:
    """Returns an index from 0 of OBJ's, which count from 1, or backwards from -1."""
    number = int(word)
    index = number - 1 if number > 0 else count + number
    if not 0 <= index < count:
        raise ValueError(f"a face names {number} of {count}")
    return index


def _only(colours: Floats, faces: Floats) -> Floats:
    """Returns the colours of vertices that faces without a texture use, and 1 elsewhere."""
    out = np.ones_like(colours)
    used = np.unique(faces)
    out[used] = colours[used]
    return out
