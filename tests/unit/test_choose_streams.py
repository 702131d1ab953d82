"""Packages say which files their sources and sinks are for."""

import os

import pytest
from PIL import Image

from cbs_core.choose import streams
from cbs_core.choose.streams import sink_for, source_for
from cbs_core.cli.arguments import normalise
from cbs_core.contract.errors import ConfigError


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Writes a stranger's ``conf/streams.yaml``."""
    own = streams.preset_dirs()
    monkeypatch.setattr(streams, "preset_dirs", lambda: own | {"cbs_stranger": tmp_path})
    streams._read.cache_clear()
    return (tmp_path / "streams.yaml").write_text


def test_a_strangers_suffixes_choose_its_plugins(stranger):
    stranger(
        "source:\n  pointcloud: {suffixes: [.ply, .png], sink: mesh}\n"
        "sink:\n  mesh: {suffixes: [.obj], unnamed: .obj}\n"
    )
    assert source_for("bunny.PLY") == "pointcloud"
    assert sink_for("bunny.obj") == "mesh"
    assert source_for("photo.png") == "image", "ours go first"
    assert normalise(["input=bunny.ply"])[1:] == ["source=pointcloud", "sink=mesh"]
    assert streams.unnamed("mesh") == ".obj"
    assert not [*streams.problems()]


def test_a_file_without_a_suffix_is_what_it_begins_with(stranger, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stranger("source:\n  odd: {begins: ['', 7, soup, '0102']}\n")
    picture = Image.new("RGB", (8, 8))
    for kind in ("JPEG", "PNG", "TIFF"):
        picture.save(f"a_{kind}", kind)
        assert source_for(f"a_{kind}") == "image"
    picture.save("clip.mp4", "PNG")
    (tmp_path / "strange").write_bytes(b"\1\2\3")
    (tmp_path / "empty").touch()
    os.mkfifo("pipe")
    found = [source_for(one) for one in ("clip.mp4", "strange", "empty", "pipe", "none", "~nobody")]
    assert found == ["video", "odd", "video", "video", "video", "video"]
    assert source_for("a.mpo") == "image"


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "- source",
        "styler: {}",
        "source: [a]",
        "source: {a: .ply}",
        "source: {a: {suffixes: .ply}}",
        "source: {a: {sufixes: [.ply]}}",
        "sink: {a: {nothing: true}}",
    ],
)
def test_a_broken_file_costs_nothing_and_is_told(stranger, text, tmp_path):
    stranger(text)
    assert source_for("clip.mp4") == "video"
    (problem,) = streams.problems()
    assert str(tmp_path / "streams.yaml") in problem
    assert "\n" not in problem


def test_outputs_that_are_not_named_get_the_sinks_suffix():
    assert [streams.unnamed(sink) for sink in ("image", "video", "folder", "other")] == [
        *(".png", ".mp4", "", "")
    ]


def test_a_codec_may_ask_for_a_suffix_of_its_own():
    assert streams.unnamed("video", {"codec": "prores_ks"}) == ".mov"
    assert streams.unnamed("video", {"codec": "libx264", "crf": 18}) == ".mp4"


@pytest.mark.parametrize("path", [".mp4", "out/.png", ".MOV"])
def test_a_suffix_alone_names_no_folder(path):
    with pytest.raises(ConfigError, match=f"'{path}' is a suffix alone: say output=NAME"):
        sink_for(path)
