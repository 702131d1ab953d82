"""glTF 2.0, as GLB or with files beside it: only images, and colours of vertices, are replaced.

A primitive without a texture gets one: xatlas lays its triangles out, which splits vertices, so
that its attributes are written anew, in the new order, with the same values.

Letters: ``V`` vertices, ``F`` faces.
"""

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from cbs_core.contract.errors import SinkError, SourceError
from cbs_core.machine.files import replace
from cbs_core.scene.types import Floats, Ints, Mesh, Paint, Painted
from cbs_plugins.scenes.gltf_file import GltfEditor, GltfFile
from cbs_plugins.scenes.layout import Layout, laid_out
from cbs_plugins.scenes.textures import beside, decode, encode, inside, is_webp, read, told_finite

READING = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError)
"""What a damaged file raises while it is read."""

LAID = ("min", "max", "sparse")
"""What is said of an accessor anew where its rows are."""

MOST_TRIANGLES = 50_000_000
"""That are shown: a mesh counts once for each node that shows it."""

INSTANCES = "EXT_mesh_gpu_instancing"
WEBP = "EXT_texture_webp"


@dataclass(frozen=True, slots=True, eq=False)
class _Primitive:
    """One primitive as it is drawn; meshes that several nodes show are read once."""

    where: tuple[int, int]
    """Mesh and primitive."""

    points: Floats
    """``(V,3)``."""

    triangles: Ints
    """``(F,3)``."""

    uv: Floats
    """``(F,3,2)``."""

    colours: Floats
    """``(V,3)`` linear."""

    paint: int
    factor: Floats
    material: int


class GltfScene:
    """A glTF scene (`MeshFile`).

    Args:
        path: the ``.glb`` or ``.gltf``.

    Raises:
        SourceError: it is damaged, holds no triangles, or needs a file from elsewhere.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.file = GltfFile(self.path)
        self._left_out: list[str] = []
        self._paints: list[Paint] = []
        self._images: dict[int, int] = {}
        self._webp: set[int] = set()
        self._fresh: dict[int, tuple[tuple[int, int], Layout]] = {}
        self._materials = [
            str(told.get("name", f"material{i}"))
            for i, told in enumerate(self.file.json.get("materials", []))
        ]
        self._materials.append("none")
        try:
            self._uris = _uris(self.file.json)
            self.mesh = self._read()
        except READING as error:
            raise SourceError(
                f"'{path}' is damaged ({type(error).__name__}: {' '.join(str(error).split())}): "
                "export it anew"
            ) from error

    @property
    def left_out(self) -> tuple[str, ...]:
        """What is in the file and not in the mesh."""
        return tuple(dict.fromkeys(self._left_out))

    def _read(self) -> Mesh:
        told = self.file.json
        primitives: dict[int, list[_Primitive]] = {}
        parts: list[tuple[_Primitive, Floats, int]] = []
        objects: list[str] = []
        shown = 0
        for node, matrix in self._nodes():
            mesh = told["nodes"][node].get("mesh")
            if mesh is None:
                continue
            shape = self.file.entry("meshes", mesh)
            if INSTANCES in told["nodes"][node].get("extensions", {}):
                self._left_out.append(f"node {node} is shown many times ({INSTANCES}), seen once")
            if mesh not in primitives:
                primitives[mesh] = [
                    p
                    for i, one in enumerate(shape["primitives"])
                    if (p := self._primitive(mesh, i, one)) is not None
                ]
            name = told["nodes"][node].get("name") or shape.get("name")
            objects.append(str(name or f"node{node}"))
            # A skin's joints place the vertices, and the node that holds it does not.
            place = np.eye(4) if "skin" in told["nodes"][node] else matrix
            parts += [(p, place, len(objects) - 1) for p in primitives[mesh]]
            shown += sum(len(p.triangles) for p in primitives[mesh])
            if shown > MOST_TRIANGLES:
                raise ValueError(f"it shows {shown} triangles or more, too many to be read")
        if not parts:
            raise SourceError(f"'{self.path}' shows no triangles")
        return self._joined(parts, objects)

    def _nodes(self) -> list[tuple[int, Floats]]:
        told = self.file.json
        scenes = told.get("scenes", [])
        chosen = told.get("scene", 0)
        roots: Iterable[int] = range(len(told.get("nodes", [])))
        if scenes:
            roots = self.file.entry("scenes", chosen).get("nodes", [])
        if len(scenes) > 1:
            self._left_out.append(f"of {len(scenes)} scenes number {chosen} is seen, and no other")
        out, seen = [], set()
        due = deque((root, np.eye(4)) for root in roots)
        while due:
            index, above = due.popleft()
            if index in seen:
                raise ValueError(f"node {index} is in the scene twice")
            seen.add(index)
            node = self.file.entry("nodes", index)
            matrix = above @ _matrix(node)
            out.append((index, matrix))
            due += [(child, matrix) for child in node.get("children", [])]
        return out

    def _primitive(self, mesh: int, index: int, told: dict[str, Any]) -> _Primitive | None:
        name = f"primitive {index} of mesh {mesh}"
        mode = told.get("mode", 4)
        extensions = told.get("extensions", {})
        if mode not in (4, 5, 6) or "KHR_draco_mesh_compression" in extensions:
            what = "compressed" if mode in (4, 5, 6) else "points or lines"
            self._left_out.append(f"{name} is {what}, which are not restyled")
            return None
        attributes = told["attributes"]
        points = self.file.accessor(attributes["POSITION"], "VEC3").astype(np.float64)
        indices = np.arange(len(points))
        if "indices" in told:
            indices = self.file.accessor(told["indices"], "SCALAR")[:, 0].astype(np.int64)
        triangles = _triangles(indices, mode)
        if not len(triangles) or triangles.min() < 0 or triangles.max() >= len(points):
            raise ValueError(f"{name} has no triangles, or indices beyond its vertices")
        colours = np.ones((len(points), 3))
        if "COLOR_0" in attributes:
            colours = self.file.accessor(attributes["COLOR_0"], "VEC3", "VEC4")
            colours = told_finite(colours[:, :3].astype(np.float64), self._left_out)
        number = told.get("material", len(self._materials) - 1)
        paint, factor, uv = self._painted((mesh, index), told, points, triangles)
        return _Primitive((mesh, index), points, triangles, uv, colours, paint, factor, number)

    def _painted(
        self, where: tuple[int, int], told: dict[str, Any], points: Floats, triangles: Ints
    ) -> tuple[int, Floats, Floats]:
        """Returns the paint's index, the factor and the places on it of a primitive's corners."""
        material = {}
        if "material" in told:
            material = self.file.entry("materials", told["material"])
        rough = material.get("pbrMetallicRoughness", {})
        if "pbrSpecularGlossiness" in str(material.get("extensions", "")):
            old = material["extensions"]["KHR_materials_pbrSpecularGlossiness"]
            factor, texture = old.get("diffuseFactor"), old.get("diffuseTexture")
        else:
            factor, texture = rough.get("baseColorFactor"), rough.get("baseColorTexture")
        factor = np.array(factor or [1, 1, 1, 1], float)[:3]
        if factor.shape != (3,) or not np.isfinite(factor).all():
            raise ValueError("a material's colour is no three numbers")
        if texture is not None:
            found = self._texture(texture, told["attributes"], triangles)
            if found is not None:
                return (found[0], factor, found[1])
        return self._unwrapped(where, points, triangles, factor)

    def _texture(
        self, texture: dict[str, Any], attributes: dict[str, int], triangles: Ints
    ) -> tuple[int, Floats] | None:
        moved = texture.get("extensions", {}).get("KHR_texture_transform", {})
        name = f"TEXCOORD_{moved.get('texCoord', texture.get('texCoord', 0))}"
        told = self.file.entry("textures", texture["index"])
        source = told.get("extensions", {}).get(WEBP, {}).get("source", told.get("source"))
        if name not in attributes or source is None:
            what = f"no {name}"
            if source is None:
                what = f"no PNG, JPEG or WebP ({', '.join(told.get('extensions', {})) or 'none'})"
            self._left_out.append(f"texture {texture['index']} has {what}, and is taken for white")
            return None
        if source not in self._images:
            self._images[source] = len(self._paints)
            data = self.file.image(source)
            pixels = decode(data, f"{source} of '{self.path}'", self._left_out, self._paints)
            self._paints.append(Paint(f"image{source}", pixels))
            if is_webp(data):
                self._webp.add(source)
        uv = self.file.accessor(attributes[name], "VEC2").astype(np.float64)
        angle, scale = moved.get("rotation", 0.0), np.array(moved.get("scale", [1, 1]))
        c, s = np.cos(angle), np.sin(angle)
        uv = (uv * scale) @ np.array([[c, -s], [s, c]]) + np.array(moved.get("offset", [0, 0]))
        return self._images[source], uv[triangles]

    def _unwrapped(
        self, where: tuple[int, int], points: Floats, triangles: Ints, factor: Floats
    ) -> tuple[int, Floats, Floats]:
        """Returns the same for a primitive that gets a texture of its own, of its one colour."""
        layout = laid_out(points, triangles)
        uv, pixels = layout.uv, layout.blank(factor)
        self._fresh[len(self._paints)] = (where, layout)
        self._paints.append(Paint(f"new{len(self._paints)}", pixels))
        return len(self._paints) - 1, np.ones(3), uv[layout.indices]

    def _joined(self, parts: list[tuple[_Primitive, Floats, int]], objects: list[str]) -> Mesh:
        starts = np.cumsum([0, *(len(p.points) for p, _, _ in parts)])
        vertices = np.concatenate([p.points @ m[:3, :3].T + m[:3, 3] for p, m, _ in parts])
        faces = np.concatenate(
            [p.triangles + s for (p, _, _), s in zip(parts, starts, strict=False)]
        )

        counts = [len(p.triangles) for p, _, _ in parts]

        def of_faces(values: list[Any]) -> Any:
            return np.repeat(np.array(values), counts, axis=0)

        uv = np.concatenate([p.uv for p, _, _ in parts])
        whole = np.isfinite(vertices[faces]).all((1, 2)) & np.isfinite(uv).all((1, 2))
        if not whole.all():
            self._left_out.append(f"{(~whole).sum()} triangles have corners that are no numbers")
        if not whole.any():
            raise SourceError(f"'{self.path}' shows no triangles with numbers as corners")
        vertices[~np.isfinite(vertices).all(1)] = vertices[faces[whole][0, 0]]
        return Mesh(
            vertices=vertices,
            faces=faces[whole],
            uv=uv[whole],
            paint=of_faces([p.paint for p, _, _ in parts])[whole],
            factor=of_faces([p.factor for p, _, _ in parts])[whole],
            colours=np.concatenate([p.colours for p, _, _ in parts]),
            material=of_faces([p.material for p, _, _ in parts])[whole],
            object=of_faces([o for _, _, o in parts])[whole],
            paints=tuple(self._paints),
            materials=tuple(self._materials),
            objects=tuple(objects),
        )

    def write(self, path: Path, painted: Painted, /) -> list[Path]:
        """Writes the file with other images (`MeshFile`).

        Raises:
            SinkError: it cannot be written, or a file beside it would be written over.
        """
        editor = GltfEditor(self.file)
        images = {paint: image for image, paint in self._images.items()}
        for paint, pixels in sorted(painted.paints.items()):
            if paint in images:
                kept = images[paint] in self._webp
                content = encode(pixels, webp=kept)
                editor.image(images[paint], content, "image/webp" if kept else "image/png")
            else:
                where, layout = self._fresh[paint]
                _retexture(editor, where, layout, encode(pixels))
        content = editor.content()
        carried = self._carried(path)
        for target in carried:
            if target.exists():
                raise SinkError(f"'{target}' is there and differs: choose another output=")
        replace(path, lambda file: file.write(content))
        for target, data in carried.items():
            replace(target, lambda file, data=data: file.write(data))  # type: ignore[misc]
        return [path, *carried]

    def beside(self, path: Path, /) -> list[Path]:
        """Returns the files that go with ``path`` and are not there yet (`WritesBeside`)."""
        return list(self._carried(path))

    def _carried(self, path: Path) -> dict[Path, bytes]:
        """Returns the files that the scene names, where the output's folder lacks them."""
        out = {}
        for name in self._uris:
            data = read(beside(self.path.parent, name, self.path))
            # "../scene/a.png" is in the folder of one that lies in "scene", and in no other.
            target = inside(path.parent, name, self.path)
            if not target.is_file() or target.read_bytes() != data:
                out[target] = data
        return out


def _matrix(node: dict[str, Any]) -> Floats:
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T
    out = np.eye(4)
    x, y, z, w = np.array(node.get("rotation", [0, 0, 0, 1]), float)
    out[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    out[:3, :3] *= np.array(node.get("scale", [1, 1, 1]), float)
    out[:3, 3] = node.get("translation", [0, 0, 0])
    return out


def _triangles(indices: Ints, mode: int) -> Ints:
    if mode == 4:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    if mode == 6:
        first = np.broadcast_to(indices[:1], (max(0, len(indices) - 2),))
        return np.stack([first, indices[1:-1], indices[2:]], 1)
    strip = np.stack([indices[:-2], indices[1:-1], indices[2:]], 1)
    strip[1::2] = strip[1::2, [1, 0, 2]]
    return strip


def _retexture(editor: GltfEditor, where: tuple[int, int], layout: Layout, png: bytes) -> None:
    """Gives a primitive the texture that was made for it, with a material of its own."""
    origin, indices, uv = layout.origin, layout.indices, layout.uv
    told = editor.json
    primitive = told["meshes"][where[0]]["primitives"][where[1]]

    def added(array: Any, like: dict[str, Any], target: int) -> int:
        more = {"target": target}
        if left := -array.itemsize * array.shape[-1] % 4 if array.ndim > 1 else 0:
            # A vertex attribute's rows start at multiples of 4.
            rows = array.view(np.uint8).reshape(len(array), -1)
            more["byteStride"] = rows.shape[1] + left
            array = np.pad(rows, ((0, 0), (0, left)))
        entry = {**like, "bufferView": editor.add(array.tobytes(), **more)}
        entry = {**entry, "count": len(array), "byteOffset": 0}
        told["accessors"].append(entry)
        return len(told["accessors"]) - 1

    def split(attributes: dict[str, int]) -> dict[str, int]:
        return {
            name: added(*_rows(editor.file, index, origin), 34962)
            for name, index in attributes.items()
        }

    primitive["attributes"] = split(primitive["attributes"])
    if "targets" in primitive:
        primitive["targets"] = [split(target) for target in primitive["targets"]]
    free = next(i for i in range(99) if f"TEXCOORD_{i}" not in primitive["attributes"])
    primitive["attributes"][f"TEXCOORD_{free}"] = added(
        uv.astype("<f4"), {"componentType": 5126, "type": "VEC2"}, 34962
    )
    primitive["indices"] = added(
        indices.reshape(-1).astype("<u4"), {"componentType": 5125, "type": "SCALAR"}, 34963
    )
    primitive["mode"] = 4
    told.setdefault("images", []).append({"bufferView": editor.add(png), "mimeType": "image/png"})
    told.setdefault("textures", []).append({"source": len(told["images"]) - 1})
    old = told["materials"][primitive["material"]] if "material" in primitive else {}
    material = json.loads(json.dumps(old))
    rough = material.setdefault("pbrMetallicRoughness", {})
    rough["baseColorTexture"] = {"index": len(told["textures"]) - 1, "texCoord": free}
    rough["baseColorFactor"] = [1, 1, 1, rough.get("baseColorFactor", [1, 1, 1, 1])[3]]
    told.setdefault("materials", []).append(material)
    primitive["material"] = len(told["materials"]) - 1


def _uris(told: dict[str, Any]) -> list[str]:
    """Returns the names of the files that a scene names, of those too that nothing shows."""
    uris = [e["uri"] for e in (*told.get("buffers", []), *told.get("images", [])) if "uri" in e]
    for uri in uris:
        if not isinstance(uri, str) or "\0" in unquote(uri):
            raise ValueError(f"a URI is {uri!r:.20}")
    return [unquote(uri) for uri in uris if not uri.startswith("data:")]


def _rows(file: GltfFile, index: int, rows: Ints) -> tuple[Any, dict[str, Any]]:
    """Returns rows of an accessor as they lie in the file, and what is said of them."""
    told = {k: v for k, v in file.json["accessors"][index].items() if k not in LAID}
    array = file.accessor(index, plain=True)[rows.astype(np.int64)]
    if "min" in file.json["accessors"][index]:
        told["min"] = [v.item() for v in array.min(0)]
        told["max"] = [v.item() for v in array.max(0)]
    return array, told
