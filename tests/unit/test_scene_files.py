"""Files of meshes: side files, textures of every kind, and files that would do harm."""

import base64
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from cbs_plugins.scenes import gltf, textures
from PIL import Image

from cbs_core.contract.errors import ConfigError, SinkError, SourceError
from cbs_core.machine.unfinished import UnfinishedFolder
from cbs_core.run.destinations import refuse_part
from cbs_core.scene.session import _claimed, _free, opened
from cbs_core.scene.types import MeshFile, Painted, WritesBeside
from tests import scenes


def touched(file: MeshFile) -> Painted:
    """Returns one texel of every paint changed."""
    out = {}
    for index, paint in enumerate(file.mesh.paints):
        pixels = paint.pixels.copy()
        pixels[1, 1, :3] = 255 - pixels[1, 1, :3]
        out[index] = pixels
    return Painted(out)


def same_shape(one: MeshFile, two: MeshFile) -> None:
    for name in ("vertices", "faces", "uv", "paint", "material", "object"):
        assert np.array_equal(getattr(one.mesh, name), getattr(two.mesh, name)), name


def test_a_gltf_takes_its_files_along(tmp_path) -> None:
    path = scenes.gltf(tmp_path)
    file, target = opened(path), tmp_path / "new" / "box.gltf"
    assert isinstance(file, MeshFile)
    assert isinstance(file, WritesBeside)
    beside = [target.with_name("box.bin"), target.with_name("the picture.png")]
    assert file.beside(target) == beside
    painted = touched(file)
    assert file.write(target, painted) == [target, *beside]
    for one in beside:
        assert one.read_bytes() == (tmp_path / one.name).read_bytes()
    path.unlink()
    again = opened(target)
    # Corners of the square without a texture are laid out anew.
    assert np.array_equal(
        again.mesh.vertices[again.mesh.faces], file.mesh.vertices[file.mesh.faces]
    )
    for paint, pixels in painted.paints.items():
        assert np.array_equal(again.mesh.paints[paint].pixels, pixels)
    assert file.beside(target) == []  # they are there, and the same
    beside[0].write_bytes(b"another's")
    assert file.beside(target) == beside[:1]
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"box\.bin"):
            refuse_part(beside[0], overwrite=overwrite)
    with pytest.raises(SinkError, match="is there and differs"):
        file.write(target, painted)


def test_a_gltf_that_is_untouched_says_the_same(tmp_path) -> None:
    path = scenes.gltf(tmp_path)
    opened(path).write(tmp_path / "other.gltf", Painted())
    assert json.loads(path.read_text()) == json.loads((tmp_path / "other.gltf").read_text())
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("box.bin", "box.gltf", "other.gltf", "the picture.png")
    ]


@pytest.mark.parametrize(
    "uri",
    [
        *("file:///etc/passwd", "FILE:/etc/passwd", "http://x.org/a.bin", "//x.org/a.bin"),
        *("/etc/passwd", "../box.bin", "%2e%2e/box.bin", "sub/../../box.bin", "link.bin"),
    ],
)
@pytest.mark.parametrize("kind", ["buffers", "images"])
def test_nothing_is_read_from_elsewhere(uri: str, kind: str, tmp_path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "box.bin").write_bytes(bytes(10_000))
    (folder / "link.bin").symlink_to(tmp_path / "box.bin")

    def change(told: dict) -> dict:
        told[kind][0]["uri"] = uri
        return told

    with pytest.raises(SourceError, match=r"not in its folder|is not there"):
        opened(scenes.gltf(folder, change=change))


def test_nothing_is_written_elsewhere(tmp_path) -> None:
    """A name that leads out of the scene's folder and back in leads elsewhere from the output's."""
    folder = tmp_path / "in"
    folder.mkdir()

    def change(told: dict) -> dict:
        told["buffers"][0]["uri"] = "../in/box.bin"
        return told

    file, target = opened(scenes.gltf(folder, change=change)), tmp_path / "away" / "out" / "a.gltf"
    for call in (file.beside, lambda path: file.write(path, Painted())):
        with pytest.raises(SourceError, match="not in its folder"):
            call(target)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("a_vertex", [True, False])
@pytest.mark.parametrize("text", [True, False])
def test_a_ply_with_a_texture(a_vertex: bool, text: bool, tmp_path) -> None:
    file = opened(scenes.textured_ply(tmp_path, a_vertex=a_vertex, text=text))
    assert isinstance(file, MeshFile)
    assert isinstance(file, WritesBeside)
    boxed = opened(scenes.obj(tmp_path))
    assert np.abs(file.mesh.uv - boxed.mesh.uv).max() < 1e-6
    assert np.array_equal(file.mesh.paints[0].pixels, boxed.mesh.paints[0].pixels)
    target = tmp_path / "new" / "it.ply"
    painted = touched(file)
    assert file.write(target, painted) == [target, target.with_name("it_0.png")]
    assert file.beside(target) == [target.with_name("it_0.png")]
    old, new = ((tmp_path / name).read_bytes() for name in ("box.ply", "new/it.ply"))
    assert new == old.replace(b"TextureFile box.png", b"TextureFile it_0.png")
    again = opened(target)
    same_shape(file, again)
    assert np.array_equal(again.mesh.paints[0].pixels, painted.paints[0])
    (tmp_path / "box_0.png").write_bytes(scenes.png())
    old = old.replace(b"TextureFile box.png", b"TextureFile box_0.png")
    (tmp_path / "box.ply").write_bytes(old)
    with pytest.raises(SinkError, match="part of the input"):
        opened(tmp_path / "box.ply").write(tmp_path / "box.ply", painted)


def test_a_ply_with_two_textures_and_squares(tmp_path) -> None:
    head = [
        *("ply", "format ascii 1.0", "comment TextureFile a.png", "comment TextureFile b.png"),
        *("element vertex 5", *(f"property float {c}" for c in "xyz")),
        *("element face 2", "property list uchar int vertex_indices"),
        *("property list uchar float texcoord", "property int texnumber", "end_header"),
    ]
    rows = ["0 0 0", "1 0 0", "1 1 0", "0 1 0", "2 0 0"]
    faces = ["4 0 1 2 3 8 0 0 1 0 1 1 0 1 1", "3 1 4 2 6 0 0 1 0 0 1 0"]
    (tmp_path / "x.ply").write_text("\n".join([*head, *rows, *faces]) + "\n")
    (tmp_path / "a.png").write_bytes(scenes.png(16))
    (tmp_path / "b.png").write_bytes(scenes.png(32))
    mesh = opened(tmp_path / "x.ply").mesh
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [1, 4, 2]]
    assert [len(mesh.paints[i].pixels) for i in mesh.paint] == [32, 32, 16]
    assert mesh.uv[1].tolist() == [[0, 1], [1, 0], [0, 0]]  # v downwards
    (tmp_path / "x.ply").write_text("\n".join([*head, *rows, faces[0], faces[1][:-1] + "2"]) + "\n")
    with pytest.raises(SourceError, match="textures that it does not name"):
        opened(tmp_path / "x.ply")
    (tmp_path / "b.png").unlink()
    (tmp_path / "x.ply").write_text("\n".join([*head, *rows, *faces]) + "\n")
    with pytest.raises(SourceError, match=r"needs the file 'b.png'"):
        opened(tmp_path / "x.ply")


def test_an_obj_of_two_materials_on_two_pictures(tmp_path) -> None:
    path = scenes.obj(tmp_path)
    (tmp_path / "box.mtl").write_text(
        "newmtl red\n\tmap_Kd -s 1 1 1 box.png\nnewmtl blue\nmap_Kd other pic-ture.png\n"
    )
    (tmp_path / "other pic-ture.png").write_bytes(scenes.png(32))
    text = path.read_text().replace("usemtl blue", "o second\nusemtl blue")
    path.write_text(text.replace("f 1/1", "f \\\n1/1").replace("v ", "v\t") + "# the end\n")
    file = opened(path)
    assert isinstance(file, MeshFile)
    mesh = file.mesh
    assert mesh.materials[1:] == ("red", "blue")
    assert mesh.objects == ("none", "second")
    assert mesh.paint.tolist() == [0] * 6 + [1] * 6
    painted = touched(file)
    written = file.write(tmp_path / "new" / "it.obj", painted)
    assert [p.name for p in written] == ["it.obj", "it.mtl", "it_0.png", "it_1.png"]
    again = opened(written[0])
    same_shape(file, again)
    for index, pixels in painted.paints.items():
        assert np.array_equal(again.mesh.paints[index].pixels, pixels)


def test_an_obj_without_its_materials_is_read_and_told(tmp_path) -> None:
    path = scenes.obj(tmp_path)
    (tmp_path / "box.mtl").unlink()
    file = opened(path)
    assert file.left_out == ("'box.mtl' is not there: its materials are taken for white",)
    file.write(tmp_path / "new.obj", Painted())
    assert (tmp_path / "new.obj").read_text() == path.read_text()


def test_an_obj_of_names_within_names_and_of_lines_that_go_on(tmp_path) -> None:
    path = scenes.obj(tmp_path)
    (tmp_path / "box.mtl").write_text("newmtl red\nmap_Kd box.png\nnewmtl blue\nmap_Kd abox.png\n")
    (tmp_path / "abox.png").write_bytes(scenes.png(32))
    text = path.read_text().replace("mtllib ", "# of C:\\rooms\\\nmtllib\t")
    text += "v 5 5 \\\n5\nv 6 5 5#here\nv 5 6 5\nusemtl none\nf -1 -2 -3 \\"
    path.write_text(text)
    file = opened(path)
    assert isinstance(file, MeshFile)
    assert len(file.mesh.faces) == 13
    colours = np.tile([0.0, 1.0, 0.0], (27, 1))
    painted = Painted(touched(file).paints, colours, np.arange(27) >= 24)
    written = file.write(tmp_path / "new" / "it.obj", painted)
    again = opened(written[0])
    same_shape(file, again)
    assert np.array_equal(again.mesh.colours[24:], colours[24:])
    for index, pixels in painted.paints.items():
        assert np.array_equal(again.mesh.paints[index].pixels, pixels)


def several(told: dict) -> dict:
    """A second mesh of the blue faces, which two nodes show."""
    whole = told["meshes"][0]["primitives"]
    told["meshes"] = [{"primitives": whole[:1]}, {"primitives": whole[1:2], "name": "sheet"}]
    told["nodes"] = [
        {"mesh": 0, "name": "one"},
        {"mesh": 1, "translation": [4, 0, 0]},
        {"mesh": 1, "scale": [2, 2, 2], "translation": [0, 5, 0], "name": "two"},
    ]
    told["scenes"][0]["nodes"] = [0, 1, 2]
    told["animations"] = []
    return told


def test_a_glb_of_several_meshes_and_a_mesh_shown_twice(tmp_path) -> None:
    file = opened(scenes.glb(tmp_path / "box.glb", change=several))
    mesh = file.mesh
    assert mesh.objects == ("one", "sheet", "two")
    assert np.bincount(mesh.object).tolist() == [6, 6, 6]
    assert np.bincount(mesh.material).tolist() == [6, 12]
    corners = [mesh.vertices[mesh.faces[mesh.object == i]] for i in range(3)]
    assert np.allclose((corners[1] - [4, 0, 0]) * 2 + [0, 5, 0], corners[2])


def test_the_scene_that_is_seen_is_the_one_the_file_says(tmp_path) -> None:
    def change(told: dict, **more) -> dict:
        told["scenes"] = [{"nodes": [1]}, {"nodes": [0]}]
        return {**told, **more}

    file = opened(scenes.glb(tmp_path / "box.glb", change=lambda told: change(told, scene=1)))
    assert len(file.mesh.faces) == 14
    assert file.left_out == ("of 2 scenes number 1 is seen, and no other",)
    path = scenes.glb(tmp_path / "box.glb", change=lambda told: change(told, scene=2))
    with pytest.raises(SourceError, match="damaged"):
        opened(path)


def test_one_output_is_one_run_s_while_it_works(tmp_path) -> None:
    output = tmp_path / "out" / "new.glb"
    output.parent.mkdir()
    with _claimed(output):
        assert len([*output.parent.iterdir()]) == 1
        with pytest.raises(SinkError, match="another run is writing"), _claimed(output):
            pytest.fail("two runs have it")
    assert not [*output.parent.iterdir()]
    with pytest.raises(KeyboardInterrupt), _claimed(output):
        raise KeyboardInterrupt
    assert not [*output.parent.iterdir()]
    UnfinishedFolder(output).release()  # as of a run that was killed
    assert [*output.parent.iterdir()]
    with _claimed(output):
        pass
    assert not [*output.parent.iterdir()]


def test_a_run_that_is_refused_leaves_no_folder_that_it_made(tmp_path) -> None:
    output = tmp_path / "new" / "deep" / "scene.glb"
    with pytest.raises(ConfigError), _claimed(output):
        raise ConfigError("no class 'truk'")
    assert not [*tmp_path.iterdir()]
    with _claimed(output):
        output.write_bytes(b"glTF")
    assert output.is_file()


def test_what_somebody_puts_in_the_way_meanwhile_stays(tmp_path) -> None:
    file = opened(scenes.obj(tmp_path))
    assert _free(tmp_path / "new.obj", file) == tmp_path / "new.obj"
    (tmp_path / "new.mtl").write_text("somebody's")
    assert _free(tmp_path / "new.obj", file) == tmp_path / "new.2.obj"
    (tmp_path / "new.2.obj").symlink_to("nowhere")
    assert _free(tmp_path / "new.obj", file) == tmp_path / "new.3.obj"


def textured(data: bytes, kind: str, **extra):
    """Returns a change that puts a picture into the file as a URI of its own."""

    def change(told: dict) -> dict:
        text = base64.b64encode(data).decode()
        told["images"] = [{"uri": f"data:{kind};base64,{text}"}]
        return {**told, **extra}

    return change


def saved(array: np.ndarray, kind: str, **how) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, format=kind, **how)
    return out.getvalue()


def test_a_mesh_that_many_nodes_show_is_counted_for_each(tmp_path, monkeypatch) -> None:
    path = scenes.glb(tmp_path / "box.glb", change=several)
    shown = len(opened(path).mesh.faces)
    monkeypatch.setattr(gltf, "MOST_TRIANGLES", shown - 1)
    with pytest.raises(SourceError, match=f"shows {shown} triangles"):
        opened(path)


def test_a_texture_of_sixteen_bits_is_scaled_and_told(tmp_path) -> None:
    grey = (np.arange(64).reshape(8, 8) * 1024).astype(np.uint16)
    file = opened(scenes.glb(tmp_path / "box.glb", picture=saved(grey, "png")))
    assert "16 bits" in file.left_out[0]
    assert np.array_equal(file.mesh.paints[0].pixels[..., 0], grey >> 8)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + struct.pack(">3H", 40000, 1000, 300) * 8 for _ in range(8))
    head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    deep = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    file = opened(scenes.glb(tmp_path / "box.glb", picture=deep + chunk(b"IEND", b"")))
    assert "16 bits" in file.left_out[0]
    assert file.mesh.paints[0].pixels[0, 0].tolist() == [40000 >> 8, 1000 >> 8, 300 >> 8]


def test_a_webp_texture_stays_one(tmp_path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    webp = {"extensions": {"EXT_texture_webp": {"source": 0}}}
    used = {"extensionsUsed": ["EXT_texture_webp"], "extensionsRequired": ["EXT_texture_webp"]}
    change = textured(saved(pixels, "webp", lossless=True, exact=True), "image/webp", **used)
    path = scenes.glb(tmp_path / "a.glb", change=lambda t: change({**t, "textures": [webp]}))
    file = opened(path)
    assert isinstance(file, MeshFile)
    assert np.array_equal(file.mesh.paints[0].pixels, pixels)
    painted = Painted({0: touched(file).paints[0]})
    file.write(tmp_path / "b.glb", painted)
    data = (tmp_path / "b.glb").read_bytes()
    told = json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])
    assert told["textures"] == [webp]
    assert told["images"][0]["mimeType"] == "image/webp"
    assert np.array_equal(opened(tmp_path / "b.glb").mesh.paints[0].pixels, painted.paints[0])


def test_a_ktx2_texture_is_left_out_by_name(tmp_path) -> None:
    ktx = {"extensions": {"KHR_texture_basisu": {"source": 0}}}
    change = textured(b"\xabKTX 20\xbb\r\n\x1a\n" + bytes(99), "image/ktx2")
    path = scenes.glb(tmp_path / "a.glb", change=lambda t: change({**t, "textures": [ktx]}))
    assert "KHR_texture_basisu" in opened(path).left_out[0]
    with pytest.raises(SourceError, match="is a KTX2, which is not read"):
        opened(scenes.glb(tmp_path / "a.glb", change=change))


def test_a_picture_that_would_start_a_program_is_not_opened(tmp_path) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(SourceError, match="is no PNG, JPEG"):
        opened(scenes.glb(tmp_path / "box.glb", picture=eps))


@pytest.mark.parametrize("limit", ["MOST_TEXT", "MOST_TEXTURE"])
def test_what_a_file_holds_as_text_has_a_bound(limit: str, tmp_path, monkeypatch) -> None:
    room = "cbs_plugins.scenes." + ("gltf_file" if limit == "MOST_TEXT" else "textures")
    monkeypatch.setattr(f"{room}.{limit}", 1000)
    change = textured(bytes(1200), "image/png")
    with pytest.raises(SourceError, match="more than is read"):
        opened(scenes.glb(tmp_path / "box.glb", change=change))


def told_of(kind: str, index: int, **more):
    def change(told: dict) -> dict:
        told[kind][index].update(more)
        return told

    return change


def primitive(**more):
    def change(told: dict) -> dict:
        told["meshes"][0]["primitives"][0].update(more)
        return told

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (told_of("accessors", 0, count=-1), "claims -1 elements"),
        (told_of("accessors", 0, count=2.5), "claims 2.5 elements"),
        (told_of("accessors", 0, byteOffset=-4), "outside"),
        (told_of("accessors", 0, type="VEC2"), "VEC2 where VEC3"),
        (told_of("accessors", 1, type="SCALAR"), "SCALAR where VEC2"),
        (told_of("accessors", 0, componentType=1), "damaged"),
        (told_of("bufferViews", 0, byteStride=-12), "outside"),
        (told_of("bufferViews", 0, byteStride=2**60), "outside"),
        (told_of("bufferViews", 0, byteLength=2**60), "outside"),
        (told_of("bufferViews", 0, buffer=-1), "names -1 of 1 buffers"),
        (told_of("buffers", 0, byteLength=2**60), "shorter than it says"),
        (
            told_of("materials", 2, pbrMetallicRoughness={"baseColorFactor": [float("nan")] * 4}),
            "no three",
        ),
        (told_of("nodes", 0, mesh=-1), "names -1 of 1 meshes"),
        (told_of("nodes", 0, matrix=[1.0, 2.0]), "damaged"),
        (told_of("nodes", 0, matrix=[float("nan")] * 16), "no triangles with numbers"),
        (told_of("images", 0, uri=7), "a URI is 7"),
        (told_of("images", 0, uri="a%00.png"), "a URI is"),
        (told_of("images", 0, uri="a" * 5000 + ".png"), "is not there"),
        (told_of("images", 0, uri="data:image/png;base64,@@"), "data URI is damaged"),
        (told_of("textures", 0, source="x"), "names x of 1 images"),
        (primitive(material=-1), "names -1 of 3 materials"),
        (primitive(indices=-6), "names -6 of 8 accessors"),
        (lambda t: {**t, "extensionsRequired": ["KHR_meshopt_compression"]}, "compressed by KHR"),
        (lambda t: {**t, "extensionsRequired": ["EXT_meshopt_compression"]}, "compressed by EXT"),
    ],
)
def test_what_a_glb_says_wrongly_is_told_in_one_line(change, words: str, tmp_path) -> None:
    with pytest.raises(SourceError, match=words) as found:
        opened(scenes.glb(tmp_path / "box.glb", change=change))
    assert len(str(found.value).splitlines()) == 1


def test_one_picture_is_not_a_thousand_textures(tmp_path, monkeypatch) -> None:
    def change(told: dict) -> dict:
        told["images"] *= 2
        told["textures"].append({"source": 1})
        told["materials"][1]["pbrMetallicRoughness"] = {"baseColorTexture": {"index": 1}}
        return told

    path = scenes.glb(tmp_path / "box.glb", change=change)
    assert len(opened(path).mesh.paints) == 3
    monkeypatch.setattr(textures, "MOST_TOGETHER", 2 * 64 * 64 - 1)
    with pytest.raises(SourceError, match="claims 8192 pixels of textures"):
        opened(path)


def test_an_accessor_without_data_claims_no_memory(tmp_path) -> None:
    def change(told: dict) -> dict:
        del told["accessors"][0]["bufferView"]
        return told_of("accessors", 0, count=20_000_000)(told)

    with pytest.raises(SourceError, match="claims 20000000 elements"):
        opened(scenes.glb(tmp_path / "box.glb", change=change))


def test_a_sparse_accessor_is_read(tmp_path) -> None:
    """Two corners of the box are given anew: by the numbers 0 and 1, the square's first two."""
    plain = opened(scenes.glb(tmp_path / "box.glb")).mesh

    def change(told: dict) -> dict:
        told["accessors"][0]["sparse"] = {
            "count": 2,
            "indices": {"bufferView": 7, "componentType": 5123},  # 0, 1, 2, ...
            "values": {"bufferView": 6},
        }
        return told

    found = opened(scenes.glb(tmp_path / "box.glb", change=change)).mesh
    assert np.allclose(found.vertices[:2], plain.vertices[48:50])
    assert np.array_equal(found.vertices[2:24], plain.vertices[2:24])

    def beyond(told: dict) -> dict:
        change(told)["accessors"][0]["count"] = 1
        return told

    with pytest.raises(SourceError, match="beyond its last"):
        opened(scenes.glb(tmp_path / "box.glb", change=beyond))


def test_morph_targets_of_a_new_texture_go_with_its_corners(tmp_path) -> None:
    """Sparse targets are written whole, in the new order of corners."""

    def change(told: dict) -> dict:
        view = {"bufferView": 7, "componentType": 5123}
        told["accessors"].append(
            {
                **{"componentType": 5126, "type": "VEC3", "count": 4},
                "sparse": {"count": 1, "indices": view, "values": {"bufferView": 6}},
            }
        )
        told["meshes"][0]["primitives"][2]["targets"] = [{"POSITION": 8}]
        return told

    file = opened(scenes.glb(tmp_path / "box.glb", change=change))
    assert isinstance(file, MeshFile)
    file.write(tmp_path / "out.glb", touched(file))
    again = opened(tmp_path / "out.glb")
    told = again.file.json["meshes"][0]["primitives"][2]  # type: ignore[attr-defined]
    place = again.file.accessor(told["attributes"]["POSITION"])  # type: ignore[attr-defined]
    moved = again.file.accessor(told["targets"][0]["POSITION"])  # type: ignore[attr-defined]
    first = (place == [-1, 2, -1]).all(1)
    assert first.any()
    assert np.array_equal(moved[first], np.broadcast_to([-1, 2, -1], (first.sum(), 3)))
    assert not moved[~first].any()


def test_instances_and_skins_are_read_and_told(tmp_path) -> None:
    def change(told: dict) -> dict:
        told["skins"] = [{"joints": [1]}]
        held = {"attributes": {"TRANSLATION": 6}}
        return told_of("nodes", 0, skin=0, extensions={"EXT_mesh_gpu_instancing": held})(told)

    file = opened(scenes.glb(tmp_path / "box.glb", change=change))
    assert "EXT_mesh_gpu_instancing" in file.left_out[0]
    file.write(tmp_path / "out.glb", Painted())
    assert opened(tmp_path / "out.glb").left_out == file.left_out


def test_quantized_places_are_read_and_rewritten(tmp_path) -> None:
    """Three 16-bit numbers a corner, padded to 8 bytes, as KHR_mesh_quantization has it."""
    path = scenes.gltf(tmp_path)
    told = json.loads(path.read_text())
    square = np.array([[-1, 2, -1], [-1, 4, -1], [-1, 4, 1], [-1, 2, 1]], "<i2")
    data = np.pad(square, ((0, 0), (0, 1))).astype("<i2").tobytes()
    told["buffers"].append(
        {
            "byteLength": len(data),
            "uri": "data:application/octet-stream;base64," + base64.b64encode(data).decode(),
        }
    )
    view = {"buffer": 1, "byteLength": len(data), "byteStride": 8}
    told["bufferViews"].append(view)
    told["accessors"][6] = {
        **{"bufferView": len(told["bufferViews"]) - 1, "componentType": 5122, "type": "VEC3"},
        **{"count": 4, "min": [-1, 2, -1], "max": [-1, 4, 1]},
    }
    told["extensionsUsed"] = told["extensionsRequired"] = ["KHR_mesh_quantization"]
    path.write_text(json.dumps(told))
    file = opened(path)
    assert isinstance(file, MeshFile)
    file.write(tmp_path / "new.gltf", touched(file))
    again = opened(tmp_path / "new.gltf")
    shape = [m.mesh.vertices[m.mesh.faces] for m in (file, again)]
    assert np.array_equal(*shape)
    new = json.loads((tmp_path / "new.gltf").read_text())
    entry = new["accessors"][new["meshes"][0]["primitives"][2]["attributes"]["POSITION"]]
    assert entry["componentType"] == 5122
    assert new["bufferViews"][entry["bufferView"]]["byteStride"] == 8


def test_vertices_alone_carry_colours(tmp_path) -> None:
    """A GLB whose material has neither texture nor colour shows the colours of its vertices."""

    def change(told: dict) -> dict:
        told["meshes"][0]["primitives"][0]["attributes"] = {"POSITION": 0, "COLOR_0": 0}
        del told["meshes"][0]["primitives"][0]["material"]
        return told

    file = opened(scenes.glb(tmp_path / "box.glb", change=change))
    assert isinstance(file, MeshFile)
    own = file.mesh.faces[file.mesh.material == 3]
    assert np.array_equal(file.mesh.colours[own], file.mesh.vertices[own])
    file.write(tmp_path / "out.glb", touched(file))
    assert len(opened(tmp_path / "out.glb").mesh.faces) == len(file.mesh.faces)


def test_a_colour_that_is_no_number_is_white_and_told(tmp_path) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0 1 0 nan\nv 1 0 0 1 0 0\nv 0 1 0 1 0 0\nf 1 2 3\n")
    file = opened(tmp_path / "a.obj")
    assert isinstance(file, MeshFile)
    assert file.mesh.colours.tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert file.left_out == ("1 vertices have colours that are no numbers, and are white",)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.obj", "v 0 0\nf 1 1 1\n", "vertex 1 has 2 numbers"),
        ("b.obj", "v 0 0 0\nf 0 1 1\n", "names 0 of 1"),
        ("c.obj", "mtllib file:///etc/passwd\nv 0 0 0\nf 1 1 1\n", "not in its folder"),
        ("d.obj", "mtllib /etc/passwd\nv 0 0 0\nf 1 1 1\n", "not in its folder"),
        ("e.ply", "ply\n{head}element face 1\nproperty int vertex_indices\n{end}0\n", "whole PLY"),
        ("f.ply", "ply\n{head}element face 1\n{list}{end}3 0 0 -1\n", "not there"),
        ("g.ply", "ply\n{head}element face 1\n{list}{end}2 0 0\n", "no faces of three"),
        ("h.ply", "ply\n{head}element face 0\n{list}{end}", "cloud of points"),
        ("i.ply", "ply\n{big}element face 1\n{list}{end}", "whole PLY"),
    ],
)
def test_a_text_file_that_is_wrong_is_told_in_one_line(
    name: str, text: str, words: str, tmp_path: Path
) -> None:
    head = "format ascii 1.0\nelement vertex 1\n" + "".join(f"property float {c}\n" for c in "xyz")
    parts = {
        "head": head,
        "big": head.replace("vertex 1", f"vertex {10**12}"),
        "list": "property list uchar int vertex_indices\n",
        "end": "end_header\n0 0 0\n",
    }
    (tmp_path / name).write_text(text.format(**parts))
    with pytest.raises(SourceError, match=words) as found:
        opened(tmp_path / name)
    assert len(str(found.value).splitlines()) == 1
