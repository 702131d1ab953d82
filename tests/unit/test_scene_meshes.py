"""Meshes: what is routed changes, and nothing else; files there and back; bad files in one line."""

import dataclasses
import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from cbs_core.contract.errors import CbsError, ConfigError, PluginContractError, SourceError
from cbs_core.frame.routes import Route
from cbs_core.scene import bake, cameras, consistency, vote
from cbs_core.scene.classes import parsed
from cbs_core.scene.meshes import restyle
from cbs_core.scene.nets import Segmenting, Styling
from cbs_core.scene.rays import Caster
from cbs_core.scene.session import opened
from cbs_core.scene.types import MeshFile, Painted, linear, srgb
from tests import scenes
from tests.restyling import GREEN, request


def parts(data: bytes) -> tuple[dict, bytes]:
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size]), data[28 + size :]


@pytest.mark.parametrize("routes", [["car"], ["material/red"]])
def test_a_routed_class_is_restyled_and_the_other_keeps_its_texels(routes, tmp_path) -> None:
    file = opened(scenes.glb(tmp_path / "box.glb"))
    restyled = restyle(file, request(routes=routes))
    restyled.write(tmp_path / "out.glb")
    again = opened(tmp_path / "out.glb")
    old, new = file.mesh.paints[0].pixels, again.mesh.paints[0].pixels
    assert np.array_equal(old[:, 32:], new[:, 32:])  # the blue half
    own = bake.covered(file.mesh, np.flatnonzero(file.mesh.material == 0), 0)
    got = new.reshape(-1, 3)[np.unique(own.index)]
    assert np.abs(got / 255 - GREEN).max() < 1.5 / 255
    told = restyled.facts["classes"]
    assert told[0]["faces"] == 6
    assert told[0]["seen"] == 1.0


def test_the_rest_is_what_no_other_name_of_a_face_says(tmp_path) -> None:
    mesh = opened(scenes.glb(tmp_path / "box.glb")).mesh
    for spec, own in (
        ({"material:red": "none", "rest": {}}, mesh.material != 0),
        ({"not material:red": {}}, mesh.material != 0),
        ({"rest": {}}, mesh.material >= 0),
    ):
        asked = request(routes=spec, labels="material")
        names = [*vote.names(mesh, "material"), *vote.names(mesh, "object")]
        routes, segmenter = parsed(asked, names)
        assert segmenter is None
        assert np.array_equal(vote.routed(mesh, None, (), routes) == 0, own), spec


def test_everything_else_of_a_glb_stays(tmp_path) -> None:
    path = scenes.glb(tmp_path / "box.glb")
    file = opened(path)
    restyle(file, request(routes=["material/red"])).write(tmp_path / "out.glb")
    (old, blob), (new, other) = (parts(p.read_bytes()) for p in (path, tmp_path / "out.glb"))
    start = old["bufferViews"][8]["byteOffset"]
    assert blob[:start] == other[:start]  # geometry, places, animation
    for told in (old, new):
        told["bufferViews"][8] = told["buffers"][0]["byteLength"] = None
    assert old == new


def test_untouched_a_glb_keeps_every_byte_of_its_data(tmp_path) -> None:
    path = scenes.glb(tmp_path / "box.glb")
    opened(path).write(tmp_path / "out.glb", Painted())
    (old, blob), (new, other) = (parts(p.read_bytes()) for p in (path, tmp_path / "out.glb"))
    assert old == new
    assert blob == other


def test_a_material_without_texture_gets_one(tmp_path) -> None:
    path = scenes.glb(tmp_path / "box.glb")
    file = opened(path)
    restyle(file, request(routes=["material/plain"])).write(tmp_path / "out.glb")
    again = opened(tmp_path / "out.glb")
    assert len(again.mesh.paints) == 2
    assert np.array_equal(again.mesh.paints[0].pixels, file.mesh.paints[0].pixels)
    caster = Caster(again.mesh)
    seen = caster.view(cameras.orbit(cameras.Ball((-1, 3, 0), 1.5), 270, 0, 64))
    own = seen.hit & (again.mesh.paint[seen.face] == 1)
    assert own.sum() > 100
    assert np.abs(seen.colour[own] - GREEN).max() < 2 / 255
    told = parts((tmp_path / "out.glb").read_bytes())[0]
    assert told["materials"][-1]["doubleSided"]
    assert np.array_equal(
        np.sort(again.mesh.vertices[again.mesh.faces[-2:]].reshape(-1, 3), 0),
        np.sort(file.mesh.vertices[file.mesh.faces[-2:]].reshape(-1, 3), 0),
    )


def test_a_coarse_texture_is_made_finer_where_all_of_it_is_restyled(tmp_path) -> None:
    path = scenes.glb(tmp_path / "box.glb", picture=scenes.png(8))
    old, _ = parts(path.read_bytes())
    for routes, side in ((["rest"], 32), (["red"], 8)):
        restyled = restyle(opened(path), request(routes=routes, labels="material"))
        restyled.write(tmp_path / "out.glb")
        again = opened(tmp_path / "out.glb")
        assert isinstance(again, MeshFile)
        assert again.mesh.paints[0].pixels.shape[:2] == (side, side)
        assert restyled.facts["textures"][0] == [side, side]
        new, _ = parts((tmp_path / "out.glb").read_bytes())
        assert new["meshes"][0]["primitives"][:2] == old["meshes"][0]["primitives"][:2]
        assert np.array_equal(again.mesh.uv, opened(path).mesh.uv)
        view = cameras.orbit(restyled.ball, 30, 20, 64)
        was, now = restyled.before(view), restyled.after(view)
        red = (was[..., 0] > 0.6) & (was[..., 2] < 0.3)
        assert np.abs(now[red] - GREEN).mean() < 0.02


def test_an_obj_is_restyled_with_its_text_as_it_was(tmp_path) -> None:
    file = opened(scenes.obj(tmp_path))
    restyle(file, request()).write(tmp_path / "out" / "new.obj")
    old, new = ((tmp_path / name).read_text() for name in ("box.obj", "out/new.obj"))
    assert old.replace("box.mtl", "new.mtl") == new
    assert "Ks 0 0 0 # kept" in (tmp_path / "out" / "new.mtl").read_text()
    again = opened(tmp_path / "out" / "new.obj").mesh
    assert np.array_equal(again.paints[0].pixels[:, 32:], file.mesh.paints[0].pixels[:, 32:])
    assert not np.array_equal(again.paints[0].pixels[:, :32], file.mesh.paints[0].pixels[:, :32])
    with pytest.raises(CbsError, match="part of the input"):
        file.write(tmp_path / "box.obj", Painted())


def test_a_ply_is_restyled_at_its_vertices(tmp_path) -> None:
    file = opened(coloured_ply(tmp_path / "box.ply"))
    assert isinstance(file, MeshFile)
    restyle(file, request()).write(tmp_path / "out.ply")
    again = opened(tmp_path / "out.ply").mesh
    assert np.array_equal(again.vertices, file.mesh.vertices)
    assert np.array_equal(again.faces, file.mesh.faces)
    assert np.array_equal(again.colours[12:], file.mesh.colours[12:])
    assert np.abs(srgb(again.colours[:12]) - GREEN).max() < 1.5 / 255
    file.write(tmp_path / "same.ply", Painted())
    assert (tmp_path / "same.ply").read_bytes() == (tmp_path / "box.ply").read_bytes()


def coloured_ply(path):
    from plyfile import PlyData, PlyElement

    points, triangles = scenes.box()
    rows = np.zeros(
        24,
        [
            *((c, "<f4") for c in "xyz"),
            *((c, "u1") for c in ("red", "green", "blue")),
            ("quality", "<f4"),
        ],
    )
    for k, c in enumerate("xyz"):
        rows[c] = points[:, k]
    for k, c in enumerate(("red", "green", "blue")):
        rows[c] = np.where(np.arange(24) < 12, scenes.RED[k], scenes.BLUE[k])
    faces = np.zeros(12, [("vertex_indices", "<i4", (3,))])
    faces["vertex_indices"] = triangles
    elements = [PlyElement.describe(rows, "vertex"), PlyElement.describe(faces, "face")]
    PlyData(elements, comments=["kept"], byte_order="<").write(str(path))
    return path


def test_one_object_is_selected_by_a_face(tmp_path) -> None:
    mesh = opened(scenes.glb(tmp_path / "box.glb")).mesh
    view = Caster(mesh).view(cameras.orbit(cameras.Ball((0, 0, 0), 2), 0, 0, 32))
    route = np.zeros(len(mesh.faces), int)
    chosen = vote.selected_faces(mesh, route, 13, view)
    assert chosen.sum() == 2  # the square apart from the box
    assert vote.selected_faces(mesh, route, "16,16", view).sum() == 12
    with pytest.raises(ConfigError, match="no place that is restyled"):
        vote.selected_faces(mesh, route - 1, 3, view)
    with pytest.raises(ConfigError, match="outside"):
        vote.selected_faces(mesh, route, "99,1", view)


def test_a_surface_point_looks_the_same_from_two_sides(tmp_path) -> None:
    file = opened(scenes.glb(tmp_path / "box.glb"))
    told = consistency.measured(restyle(file, request()), lambda: None)
    assert told["short"]["after"] <= 1.2 * told["short"]["before"] + 1e-3
    # And a scene that is not the same is told from one that is.
    broken = restyle(file, request())
    other = dataclasses.replace(broken, after=lambda c: broken.after(c) * (1 + c.position[0] / 20))
    assert consistency.measured(other, lambda: None)["long"]["after"] > 0.02


class Square:
    """A distance: the squared difference."""

    def __call__(self, one, two):
        return (one - two).square().mean(1, keepdim=True)


def test_a_distance_is_measured_of_the_same_points(tmp_path) -> None:
    restyled = restyle(opened(scenes.glb(tmp_path / "box.glb")), request())
    told = consistency.measured(restyled, lambda: None, Square())
    for reach in ("short", "long"):
        for when in ("before", "after"):
            want = told[reach][when] ** 2
            assert told[reach][f"distance_{when}"] == pytest.approx(want, rel=0.02, abs=2e-5)
    with pytest.raises(PluginContractError, match="no map"):
        consistency.measured(restyled, lambda: None, lambda one, two: one)


def test_rays_meet_the_surface_where_their_depth_and_their_corners_say(tmp_path) -> None:
    mesh = opened(scenes.glb(tmp_path / "box.glb")).mesh
    far = dataclasses.replace(mesh, vertices=mesh.vertices * 1e3 + [5e3, 0, 0])
    camera = cameras.orbit(cameras.Ball((5e3, 0, 0), 2e3), 30, 20, 64)
    hits = Caster(far).hits(camera)
    assert len(hits.pixel) > 500
    by_depth = camera.position + camera.rays()[hits.pixel] * hits.depth[:, None]
    corners = far.vertices[far.faces[hits.face]]
    assert np.abs(np.einsum("nk,nkc->nc", hits.corners, corners) - by_depth).max() < 0.5
    assert (hits.slant > 0).all()
    assert (hits.slant <= 1.0001).all()


def test_a_view_is_styled_where_it_shows_as_the_whole_would_be() -> None:
    styling = request().workshop.styler(Route(("car",), "johnson", {"style": "wave"}))
    picture = np.random.default_rng(0).random((210, 330, 3), np.float32)
    styling.measure([picture])
    shows = np.zeros((210, 330), bool)
    shows[150:, :21] = shows[40:60, 290:] = True
    part = styling(picture, None, shows)
    assert np.abs(part - styling(picture))[shows].max() < 1e-3
    assert np.array_equal(part[80:120], picture[80:120])


def test_statistics_are_the_mean_of_views_evenly_taken() -> None:
    seen: list[float] = []

    def dense(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(float(image.mean()))
        return image, image.mean((2, 3))

    for count, want in ((3, [0, 1, 2]), (16, [0, 2, 4, 6, 8, 10, 12, 14]), (9, [*range(8)])):
        seen.clear()
        styling = Styling(Route(("car",), "green", {}), dense, dense, torch.device("cpu"))
        styling.measure([np.full((8, 8, 3), i, np.float32) for i in range(count)])
        assert seen == want
        assert styling.statistics is not None
        assert torch.allclose(styling.statistics, torch.full((1, 3), float(np.mean(want))))


def test_labels_say_what_a_plain_name_is(tmp_path) -> None:
    mesh = opened(scenes.glb(tmp_path / "box.glb")).mesh
    own = [*vote.names(mesh, "material"), *vote.names(mesh, "object")]
    for labels, name, faces in (
        ("material", "blue", mesh.material == 1),
        ("object", "box", mesh.object == 0),
        ("segmenter", "material:plain", mesh.material == 2),
    ):
        found, segmenter = parsed(request(routes=[name], labels=labels), own)
        assert segmenter is None
        assert np.array_equal(vote.routed(mesh, None, (), found) == 0, faces), labels
    with pytest.raises(ConfigError, match="did you mean"):
        parsed(request(routes=["blu"], labels="material"), own)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {**t, "asset": {"version": "1.0"}}, "version is 1.0"),
        (lambda t: {**t, "meshes": [{"primitives": []}]}, "shows no triangles"),
        (lambda t: {**t, "images": [{"uri": "file:///etc/passwd"}]}, "not in its folder"),
        (lambda t: {**t, "images": [{"uri": "../secret.png"}]}, "not in its folder"),
        (lambda t: {**t, "images": [{"uri": "http://x.org/a.png"}]}, "not in its folder"),
        (lambda t: {**t, "extensionsRequired": ["KHR_draco_mesh_compression"]}, "compressed"),
        (lambda t: {**t, "accessors": [{**a, "count": 10**7} for a in t["accessors"]]}, "outside"),
        (lambda t: {**t, "nodes": [{"mesh": 0, "children": [0]}, {}]}, "twice"),
        (lambda t: {**t, "scenes": 7}, "damaged"),
    ],
)
def test_a_bad_glb_is_told_in_one_line(change, words: str, tmp_path) -> None:
    (tmp_path.parent / "secret.png").write_bytes(scenes.png())
    with pytest.raises(SourceError, match=words):
        opened(scenes.glb(tmp_path / "box.glb", change=change))


@pytest.mark.parametrize(
    ("limit", "told"), [(89_478_485, "3600000000 pixels"), (None, "claims 60000x60000 pixels")]
)
def test_a_texture_that_claims_too_much_is_refused_unread(
    tmp_path, monkeypatch, limit, told
) -> None:
    """By Pillow's own limit, which others in the process may have lifted, and by ours."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b""))
    with pytest.raises(SourceError, match=told):
        opened(scenes.glb(tmp_path / "box.glb", picture=bomb))


def test_other_bad_files_are_told_in_one_line(tmp_path) -> None:
    for name, text, words in (
        ("a.obj", "v 0 0 0\n", "no faces"),
        ("b.obj", "v 0 0 0\nf 1 2 3\n", "damaged"),
        ("c.obj", "mtllib ../../x.mtl\nv 0 0 0\nf 1 1 1\n", "not in its folder"),
        ("d.obj", "v nan 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\n", "numbers as corners"),
        (
            "e.ply",
            "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n"
            "property float z\nend_header\n0 0 0\n",
            "cloud of points",
        ),
        (
            "f.ply",
            "ply\nformat ascii 1.0\nelement vertex 5\nproperty float x\nend_header\n1\n",
            "no whole PLY",
        ),
        ("g.glb", "glTF", "no glTF"),
        ("h.spz", "hello", "no whole SPZ"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(SourceError, match=words):
            opened(tmp_path / name)
    (tmp_path / "a.blend").write_text("x")
    with pytest.raises(ConfigError, match="there are: glb"):
        opened(tmp_path / "a.blend")
    with pytest.raises(SourceError, match="no file"):
        opened(tmp_path / "none.glb")


def test_degenerate_faces_do_no_harm(tmp_path) -> None:
    path = scenes.obj(tmp_path)
    path.write_text(path.read_text() + "f 1/1 1/1 2/2\n")
    restyled = restyle(opened(path), request())
    assert np.isfinite(restyled.after(cameras.orbit(restyled.ball, 0, 10, 32))).all()


def test_srgb_and_back() -> None:
    values = np.linspace(0, 1, 256)
    assert np.abs(srgb(linear(values)) - values).max() < 1e-9


@pytest.mark.shared
@pytest.mark.parametrize("name", ["CesiumMilkTruck.glb", "Duck.glb"])
def test_real_files_keep_what_is_not_restyled(name: str, shared, tmp_path) -> None:
    path = shared / "data" / "3d" / name
    if not path.is_file():
        pytest.skip("no data/3d in ../shared")
    file = opened(path)
    own = np.flatnonzero(file.mesh.paint == 0)
    pixels = file.mesh.paints[0].pixels.copy()
    pixels[0, 0] = 255 - pixels[0, 0]
    assert len(own)
    file.write(tmp_path / "out.glb", Painted({0: pixels}))
    (old, blob), (new, other) = (parts(p.read_bytes()) for p in (path, tmp_path / "out.glb"))
    image = old["bufferViews"].pop(old["images"][0]["bufferView"])
    new["bufferViews"].pop(new["images"][0]["bufferView"])
    assert blob[: image["byteOffset"]] == other[: image["byteOffset"]]
    for told in (old, new):
        told["buffers"][0]["byteLength"] = None
    assert old == new
    assert np.array_equal(opened(tmp_path / "out.glb").mesh.paints[0].pixels, pixels)


def test_what_plugins_return_that_is_no_number_is_refused() -> None:
    cpu, route = torch.device("cpu"), Route(("car",), "green", {})
    picture = np.zeros((4, 4, 3), np.float32)
    for value in (float("nan"), float("inf")):

        def spoilt(image: torch.Tensor, value: float = value) -> torch.Tensor:
            return image + value

        for plugin in (Segmenting(("a", "b", "c"), spoilt, cpu), Styling(route, None, spoilt, cpu)):
            with pytest.raises(PluginContractError, match="NaN or infinity"):
                plugin(picture)
