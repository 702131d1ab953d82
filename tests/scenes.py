"""Small scenes for tests, made here: a box of two materials, and clouds of splats."""

import gzip
import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from cbs_core.scene.types import Splats

RED, BLUE = (200, 40, 40), (40, 40, 200)


def box() -> tuple[np.ndarray, np.ndarray]:
    """Returns 24 corners and 12 triangles of a cube, its faces apart; two faces an axis."""
    corners, triangles = [], []
    for axis in range(3):
        for sign in (-1, 1):
            a, b = (axis + 1) % 3, (axis + 2) % 3
            start = len(corners)
            for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                point = [0.0, 0.0, 0.0]
                point[axis], point[a], point[b] = sign, u, v
                corners.append(point)
            order = (0, 1, 2, 3) if sign > 0 else (3, 2, 1, 0)
            triangles += [[start + order[i] for i in k] for k in ((0, 1, 2), (0, 2, 3))]
    return np.array(corners, "<f4"), np.array(triangles, "<u2")


def png(side: int = 64) -> bytes:
    """Returns a picture, red on its left and blue on its right."""
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[:, : side // 2], pixels[:, side // 2 :] = RED, BLUE
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="png")
    return out.getvalue()


def places() -> np.ndarray:
    """Returns a place on the picture for each corner of the box: three faces left, three right."""
    uv = np.zeros((24, 2), "<f4")
    for face in range(6):
        left, top = (0.0 if face < 3 else 0.5), (face % 3) / 3
        for corner, (u, v) in enumerate(((0, 0), (1, 0), (1, 1), (0, 1))):
            uv[4 * face + corner] = left + 0.05 + u * 0.4, top + 0.03 + v * 0.27
    return uv


def glb(path: Path, *, change=lambda told: told, picture: bytes | None = None) -> Path:
    """Writes the box as GLB: materials ``red`` and ``blue`` on one picture, ``plain`` without.

    There are an animation, a camera and extras that nothing may change.
    """
    points, triangles = box()
    picture = png() if picture is None else picture
    times, turns = np.array([0, 1], "<f4"), np.array([[0, 0, 0, 1], [0, 1, 0, 0]], "<f4")
    parts = [
        points,
        places(),
        triangles[:6],
        triangles[6:],
        times,
        turns,
        (points[:4] + np.array([0, 3, 0])).astype("<f4"),
    ]
    parts += [np.array([[0, 1, 2], [0, 2, 3]], "<u2")]
    blob, views = b"", []
    for part in [*(p.astype(p.dtype.newbyteorder("<")) for p in parts), picture]:
        data = part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes()
        blob += b"\0" * (-len(blob) % 4)
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(data)})
        blob += data
    blob += b"\0" * (-len(blob) % 4)

    def accessor(view: int, count: int, kind: str, component: int, **more) -> dict:
        return {
            "bufferView": view,
            "count": count,
            "type": kind,
            "componentType": component,
            **more,
        }

    def primitive(indices: int, material: int) -> dict:
        attributes = {"POSITION": 0, "TEXCOORD_0": 1}
        return {"attributes": attributes, "indices": indices, "material": material}

    textured = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    told = {
        "asset": {"version": "2.0", "generator": "tests"},
        "scene": 0,
        "scenes": [{"nodes": [0, 1], "extras": {"note": "kept"}}],
        "nodes": [{"mesh": 0, "name": "box"}, {"camera": 0, "translation": [0, 0, 9]}],
        "cameras": [{"type": "perspective", "perspective": {"yfov": 0.7, "znear": 0.1}}],
        "meshes": [
            {
                "primitives": [
                    primitive(2, 0),
                    primitive(3, 1),
                    {"attributes": {"POSITION": 6}, "indices": 7, "material": 2},
                ]
            }
        ],
        "materials": [
            {"name": "red", **textured},
            {"name": "blue", **textured},
            {
                "name": "plain",
                "pbrMetallicRoughness": {"baseColorFactor": [0.2, 0.5, 0.2, 1]},
                "doubleSided": True,
            },
        ],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 8, "mimeType": "image/png"}],
        "animations": [
            {
                "channels": [{"sampler": 0, "target": {"node": 0, "path": "rotation"}}],
                "samplers": [{"input": 4, "output": 5}],
            }
        ],
        "accessors": [
            accessor(0, 24, "VEC3", 5126, min=[-1, -1, -1], max=[1, 1, 1]),
            accessor(1, 24, "VEC2", 5126),
            accessor(2, 18, "SCALAR", 5123),
            accessor(3, 18, "SCALAR", 5123),
            accessor(4, 2, "SCALAR", 5126, min=[0], max=[1]),
            accessor(5, 2, "VEC4", 5126),
            accessor(6, 4, "VEC3", 5126, min=[-1, 2, -1], max=[-1, 4, 1]),
            accessor(7, 6, "SCALAR", 5123),
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": len(blob)}],
    }
    text = json.dumps(change(told)).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(blob), 0x004E4942) + blob
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


def gltf(folder: Path, *, change=lambda told: told) -> Path:
    """Writes the box as glTF with ``box.bin`` and ``the picture.png`` beside it."""
    whole = glb(folder / "box.glb").read_bytes()
    size = struct.unpack_from("<I", whole, 12)[0]
    told, blob = json.loads(whole[20 : 20 + size]), whole[28 + size :]
    picture = told["bufferViews"].pop()
    start = picture["byteOffset"]
    (folder / "the picture.png").write_bytes(blob[start : start + picture["byteLength"]])
    (folder / "box.bin").write_bytes(blob[:start])
    told["images"] = [{"uri": "the%20picture.png"}]
    told["buffers"] = [{"byteLength": start, "uri": "box.bin"}]
    (folder / "box.glb").unlink()
    (folder / "box.gltf").write_text(json.dumps(change(told)))
    return folder / "box.gltf"


def textured_ply(folder: Path, *, a_vertex: bool, text: bool = False) -> Path:
    """Writes the box as PLY with a picture, placed by its faces or by its vertices."""
    from plyfile import PlyData, PlyElement

    points, triangles = box()
    uv = places() * [1, -1] + [0, 1]
    names = ("x", "y", "z", "s", "t") if a_vertex else ("x", "y", "z")
    rows = np.zeros(24, [(c, "<f4") for c in names])
    for name, column in zip(names, np.hstack([points, uv]).T, strict=False):
        rows[name] = column
    fields = [("vertex_indices", "<i4", (3,))]
    fields += [] if a_vertex else [("texcoord", "<f4", (6,)), ("texnumber", "<i4")]
    faces = np.zeros(12, fields)
    faces["vertex_indices"] = triangles
    if not a_vertex:
        faces["texcoord"] = uv[triangles].reshape(12, 6)
    elements = [PlyElement.describe(rows, "vertex"), PlyElement.describe(faces, "face")]
    comments = ["made by hand", "TextureFile box.png"]
    PlyData(elements, text=text, comments=comments).write(str(folder / "box.ply"))
    (folder / "box.png").write_bytes(png())
    return folder / "box.ply"


def obj(folder: Path) -> Path:
    """Writes the box as OBJ with MTL and picture."""
    points, triangles = box()
    lines = ["mtllib box.mtl", *(f"v {x} {y} {z}" for x, y, z in points.tolist())]
    lines += [f"vt {u} {1 - v}" for u, v in places().tolist()]
    for i, triangle in enumerate((triangles + 1).tolist()):
        lines += [f"usemtl {'red' if i < 6 else 'blue'}"] if i in (0, 6) else []
        lines.append("f " + " ".join(f"{k}/{k}" for k in triangle))
    (folder / "box.obj").write_text("\n".join(lines) + "\n")
    (folder / "box.mtl").write_text(
        "newmtl red\nmap_Kd box.png\nKs 0 0 0 # kept\nnewmtl blue\nmap_Kd box.png\n"
    )
    (folder / "box.png").write_bytes(png())
    return folder / "box.obj"


def cloud(count: int, *, degree: int = 0, seed: int = 0) -> Splats:
    """Returns splats: a red ball at x = -1, a blue one at x = 1."""
    rng = np.random.default_rng(seed)
    side = np.where(np.arange(count) % 2, 1.0, -1.0)
    means = rng.normal(0, 0.28, (count, 3)) + side[:, None] * [1, 0, 0]
    turns = rng.normal(size=(count, 4))
    colours = np.where(side[:, None] < 0, RED, BLUE) / 255 + rng.normal(0, 0.02, (count, 3))
    return Splats(
        means=means,
        scales=np.exp(rng.uniform(-3.5, -2.0, (count, 3))),
        rotations=turns / np.linalg.norm(turns, axis=1, keepdims=True),
        opacities=rng.uniform(0.3, 0.95, count),
        colours=colours,
        harmonics=rng.normal(0, 0.05, (count, ((degree + 1) ** 2 - 1), 3)),
    )


def splat_ply(path: Path, splats: Splats) -> Path:
    """Writes 3DGS's PLY."""
    from plyfile import PlyData, PlyElement

    rest = splats.harmonics.shape[1] * 3
    fields = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(rest))]
    fields += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    odds = splats.opacities / (1 - splats.opacities)
    columns = np.concatenate(
        [
            splats.means,
            (splats.colours - 0.5) / 0.28209479177387814,
            splats.harmonics.transpose(0, 2, 1).reshape(len(odds), -1),
            np.log(odds)[:, None],
            np.log(splats.scales),
            splats.rotations,
        ],
        1,
    )
    rows = np.zeros(len(odds), [(name, "<f4") for name in fields])
    for name, column in zip(fields, columns.T, strict=True):
        rows[name] = column
    PlyData([PlyElement.describe(rows, "vertex")], comments=["kept"]).write(str(path))
    return path


def compressed_ply(path: Path, splats: Splats) -> Path:
    """Writes SuperSplat's compressed PLY; without rotations."""
    from plyfile import PlyData, PlyElement

    count = len(splats.means)
    chunks = -(-count // 256)
    values = {"": splats.means, "scale_": np.log(splats.scales)}
    names = [
        f"{end}_{k}{c}"
        for k, axes in (("", "xyz"), ("scale_", "xyz"), ("", "rgb"))
        for end in ("min", "max")
        for c in axes
    ]
    chunk = np.zeros(chunks, [(name, "<f4") for name in names])
    rows = np.zeros(
        count, [(f"packed_{n}", "<u4") for n in ("position", "rotation", "scale", "color")]
    )
    for i in range(chunks):
        own = slice(i * 256, min((i + 1) * 256, count))

        def share(data: np.ndarray, prefix: str, axes: str, own=own, i=i) -> np.ndarray:
            low, high = data[own].min(0), data[own].max(0)
            for k, c in enumerate(axes):
                chunk[f"min_{prefix}{c}"][i], chunk[f"max_{prefix}{c}"][i] = low[k], high[k]
            return (data[own] - low) / np.maximum(high - low, 1e-9)

        for prefix, name in (("", "position"), ("scale_", "scale")):
            part = np.round(share(values[prefix], prefix, "xyz") * [2047, 1023, 2047])
            part = part.astype(np.uint32)
            rows[f"packed_{name}"][own] = part[:, 0] << 21 | part[:, 1] << 11 | part[:, 2]
        rgb = np.round(share(splats.colours, "", "rgb") * 255).astype(np.uint32)
        alpha = np.round(splats.opacities[own] * 255).astype(np.uint32)
        rows["packed_color"][own] = rgb[:, 0] << 24 | rgb[:, 1] << 16 | rgb[:, 2] << 8 | alpha
        rows["packed_rotation"][own] = 512 << 20 | 512 << 10 | 512
    elements = [PlyElement.describe(chunk, "chunk"), PlyElement.describe(rows, "vertex")]
    PlyData(elements).write(str(path))
    return path


def splat(path: Path, splats: Splats) -> Path:
    """Writes a ``.splat``."""
    rows = b""
    for i in range(len(splats.means)):
        rgba = np.append(splats.colours[i], splats.opacities[i])
        rows += np.concatenate([splats.means[i], splats.scales[i]]).astype("<f4").tobytes()
        rows += np.round(np.clip(rgba, 0, 1) * 255).astype(np.uint8).tobytes()
        rows += np.clip(splats.rotations[i] * 128 + 128, 0, 255).astype(np.uint8).tobytes()
    path.write_bytes(rows)
    return path


def spz(path: Path, splats: Splats, version: int) -> Path:
    """Writes an SPZ of version 2 or 4; rotations are none."""
    count, degree = len(splats.means), {0: 0, 3: 1, 8: 2, 15: 3}[splats.harmonics.shape[1]]
    fixed = np.round(splats.means * 4096).astype(np.int32)
    low = np.stack([fixed & 255, fixed >> 8 & 255, fixed >> 16 & 255], -1).astype(np.uint8)

    def byte(values: np.ndarray) -> bytes:
        return np.round(np.clip(values, 0, 255)).astype(np.uint8).tobytes()

    turn = bytes([128, 128, 128]) * count if version < 3 else struct.pack("<I", 3 << 30) * count
    first = (splats.colours - 0.5) / 0.28209479177387814
    parts = [
        low.tobytes(),
        byte(splats.opacities * 255),
        byte((first * 0.15 + 0.5) * 255),
        byte((np.log(splats.scales) + 10) * 16),
        turn,
        byte(splats.harmonics * 128 + 128),
    ]
    head = struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, 12, 0, 0)
    if version < 4:
        path.write_bytes(gzip.compress(head + b"".join(parts)))
        return path
    import zstandard

    parts = [part for part in parts if part]
    packed = [zstandard.ZstdCompressor().compress(part) for part in parts]
    head = head[:15] + bytes([len(parts)]) + struct.pack("<I", 32) + bytes(12)
    table = b"".join(struct.pack("<QQ", len(a), len(b)) for a, b in zip(packed, parts, strict=True))
    path.write_bytes(head + table + b"".join(packed))
    return path
