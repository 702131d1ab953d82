"""What is refused before torch is imported: path, suffix, place, class."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
from cbs_plugins.formats.pictures import WRITABLE
from cbs_plugins.sinks.video import SUFFIXES, VideoSink
from PIL import Image

from cbs_core.augment import journal
from cbs_core.choose import named, presets, signatures, streams, weights
from cbs_core.choose.presets import defaults, section
from cbs_core.choose.registry import REGISTRIES, judged, sinks
from cbs_core.contract.errors import (
    CbsError,
    ConfigError,
    SinkError,
    SourceError,
    WeightsError,
    WeightsMissingError,
)
from cbs_core.contract.interfaces import Trainable
from cbs_core.contract.types import StreamInfo
from cbs_core.datasets import labelled, outlines, photos
from cbs_core.evaluation.places import chosen, painting
from cbs_core.machine import asked
from cbs_core.run import early
from cbs_core.scene import camera_files
from cbs_core.training import places
from tests.media import make_clip


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CBS_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "photo.png").write_bytes(b"a picture")
    return tmp_path / "photo.png"


def refuse(**given: object) -> None:
    early.refuse(configured(**given))


def configured(**given: object) -> dict[str, object]:
    config = defaults() | {"input": "photo.png", "output": "out.png"} | given
    for kind, choose, key in (
        ("source", streams.source_for, "input"),
        ("sink", streams.sink_for, "output"),
    ):
        path = str(config[key])
        config[kind] = {**section(kind, choose(path)), "path": path}
    return config


def test_without_an_output_the_run_gives_one(photo: Path) -> None:
    config = configured()
    config["output"] = None
    config["sink"] = {**section("sink", "image"), "path": None}
    early.refuse(config)


def test_what_is_right_passes(photo: Path) -> None:
    refuse()
    refuse(routes={"people": "wave", "rest": {"style": "udnie"}}, output="new/out.mp4")
    refuse(routes=["tiger"], segmenter={"name": "dabnet", "weights": "photo.png"})
    refuse(input="sample:cat", output="done/")
    for output in ("out.mov", "out.webp", "done/"):
        refuse(output=output, cutout=True)
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"input": "phto.png"}, "did you mean 'photo.png'"),
        ({"input": "nowhere/"}, "no file 'nowhere'"),
        ({"input": "-"}, "standard input"),
        ({"output": "-"}, "'-' is a pipe, and only files are written"),
        ({"output": "pipe:1"}, "'pipe:1' is a pipe"),
        ({"output": "out.xyz"}, r"'.xyz'.*choose one of .mp4"),
        ({"output": "out.heic"}, r"'.heic'.*choose one of .png"),
        ({"output": "out.mp4", "cutout": True}, "'out.mp4' holds no transparency.*one of .mov"),
        ({"output": "out.jpg", "cutout": True}, "'out.jpg' holds no transparency.*one of .png"),
        ({"output": "photo.png"}, "would be written over"),
        ({"output": "photo.png/out.png"}, "is a file, not a folder"),
        ({"routes": {"tigr": "wave"}}, "no class 'tigr'"),
        ({"routes": {"tigr": "wave"}, "segmenter": {"name": "dabnet"}}, "no class 'tigr'"),
        ({"routes": {"car": {"strength": 2}}}, "strength"),
    ],
)
def test_what_is_wrong_is_refused(photo: Path, given: dict[str, object], words: str) -> None:
    before = sorted(photo.parent.rglob("*"))
    with pytest.raises(CbsError, match=words):
        refuse(**given)
    assert sorted(photo.parent.rglob("*")) == before


def test_an_output_that_is_there(photo: Path) -> None:
    (photo.parent / "out.png").touch()
    with pytest.raises(CbsError, match="overwrite=true"):
        refuse()
    refuse(overwrite=True)


def test_the_suffixes_are_those_of_the_sinks() -> None:
    for name, known in (("image", WRITABLE), ("video", SUFFIXES)):
        said = streams.by_path("sink", name)
        assert said is not None
        assert said["writes"] == list(known)
        assert set(said["transparent"]) < set(known)


WORDS = (
    {"policy": "freshst"},
    {"matte": "sft"},
    {"steady": "mat"},
    {"select": "largst"},
    {"device": "gpu"},
    {"precision": "fp8"},
    {"segment_size": 2},
    {"confidence": 1},
    {"styler": {"name": "johnson", "where": "maks"}},
    {"styler": {"name": "johnson", "statistics": "scen"}},
    {"source": {"name": "folder", "path": ".", "on_error": "skp"}},
    {"sink": {"name": "video", "path": "o.mp4", "crf": "low", "on_resize": "scale"}},
    {"scheduler": {"name": "pipeline", "nets": "in_trun"}},
    {"accelerator": {"name": "auto", "budgt": 3}},
    {"compositor": {"name": "feather", "radius": "wide"}},
)


def test_neither_torch_nor_a_plugin_is_imported_to_refuse_a_word() -> None:
    script = f"""
import sys
from cbs_core.choose.presets import defaults
from cbs_core.contract.errors import ConfigError
from cbs_core.run import early
for given in {WORDS}:
    config = defaults() | {{"source": {{"name": "sample", "path": "cat"}}}} | given
    for command in ("config", *(["live"] if given.keys() & {{"matte", "device", "sink"}} else [])):
        try:
            early.refuse(config, command)
        except ConfigError:
            continue
        print("passed", given, command)
print({{*sys.modules}} & {{"torch", "numpy", "av", "PIL"}})
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("kind", REGISTRIES)
def test_what_a_plugin_takes_is_told_by_its_source_as_by_itself(kind: str) -> None:
    """By the source alone, so that nothing is refused that it would take."""
    read = 0
    for name in REGISTRIES[kind].names():
        found = signatures._read(REGISTRIES[kind].target(name))
        if found is not None:
            real = inspect.signature(REGISTRIES[kind].load(name)).parameters
            assert [*found.parameters] == [*real]
            for parameter in found.parameters.values():
                other = real[parameter.name]
                assert parameter.kind == other.kind
                assert (parameter.default is None) == (other.default is None)
                if parameter.annotation is not parameter.empty:
                    assert parameter.annotation == other.annotation, (name, parameter)
            read += 1
    assert read >= 1


def test_every_preset_passes_or_says_what_is_due(photo: Path) -> None:
    told = dict[str, str]()
    for kind in REGISTRIES:
        for name in REGISTRIES[kind].names():
            try:
                early.refuse({kind: section(kind, name)}, "export")
            except (ConfigError, WeightsMissingError) as error:
                told[f"{kind}={name}"] = str(error)
    assert "no swift weights named 'starry_night'" in told.pop("styler=swift")  # none is released
    assert told == {
        plugin: f"{plugin} has no {key} of its own: give {plugin.split('=')[0]}.{key}={example}"
        for plugin, key, example in (
            *((f"segmenter={name}", "weights", "FILE") for name in ("espnetv2", "onnx", "timm")),
            ("segmenter=huggingface", "model", "NAME"),
            ("styler=onnx", "weights", "FILE"),
            *((f"styler={name}", "style", "PICTURE") for name in ("gatys", "magenta", "microast")),
        )
    }


@pytest.mark.parametrize(
    "text",
    [
        "class P:\n    def __init__(self, a: int, *, b: Literal['x'] | None = None): ...",
        "class P:\n    @given\n    def __init__(self, c): ...",
        "@dataclass\nclass P:\n    def __init__(self, c): ...",
        "class P(Base): ...",
        "from other import P",
        "@given\ndef P(c): ...",
        "def P(c): ...\nP = given(P)",
        "class P:",
        "\0",
        None,
    ],
)
def test_what_a_strangers_source_does_not_tell_is_left_to_whoever_loads_it(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "strange" / "deep").mkdir(parents=True)
    (tmp_path / "strange" / "__init__.py").write_text("raise SystemExit('imported')")
    if text is not None:
        (tmp_path / "strange" / "deep" / "plug.py").write_text(text)
    found = signatures._read("strange.deep.plug:P")
    if text is not None and "a: int" in text:
        assert found is not None
        assert judged(found, {"a": 1, "b": "x"}, owner="P") == {"a": 1, "b": "x"}
        for wrong in ({"a": "one"}, {"b": "y"}, {"c": 1}):
            with pytest.raises(ConfigError):
                judged(found, wrong, owner="P")
    else:
        assert found is None


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("out.pngg", "did you mean '.png'"),
        ("out.mpp4", "did you mean '.mp4'"),
        ("my.holiday", "end it with / for a folder"),
    ],
)
def test_a_suffix_mistyped_is_told_the_near_one(photo: Path, output: str, told: str) -> None:
    with pytest.raises(CbsError, match=told):
        refuse(output=output)


ENCODERS = streams._declared("sink")
BY_CODEC = next(said for name, said in ENCODERS if name == "video")["writes_by"]["codec"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("codec", BY_CODEC)
def test_what_an_encoder_is_held_by_is_known_before_torch_and_true(
    photo: Path, codec: str, suffix: str
) -> None:
    refused = suffix not in BY_CODEC[codec]
    info = StreamInfo(64, 48, Fraction(25), frames=1, name="clip")
    sink = VideoSink(f"real{suffix}", codec=codec)
    if refused:
        with pytest.raises(SinkError):
            sink.open(info)
        with pytest.raises(SinkError, match=f"cannot hold {codec}: choose one of"):
            streams.check_output("video", f"out{suffix}", {"codec": codec})
    else:
        sink.open(info)
        sink.abort()
        streams.check_output("video", f"out{suffix}", {"codec": codec})
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


def test_every_sink_of_files_tells_its_wrong_suffix_early(photo: Path) -> None:
    files = {name for name in sinks.names() if streams.by_path("sink", name)}
    assert files == {"image", "video", "folder"}
    for name in files - {"folder"}:
        with pytest.raises(SinkError, match=rf"sink={name} does not write.*choose one of"):
            streams.check_output(name, "out.xyz", {})
    streams.check_output("folder", "out.xyz", {"suffix": ".PNG"})
    with pytest.raises(SinkError, match=r"sink\.suffix=\.gif is unknown"):
        streams.check_output("folder", "out/", {"suffix": ".gif"})
    with pytest.raises(SinkError, match=r"'out.mp4'.*cannot hold prores_ks: choose one of .mov"):
        streams.check_output("video", "out.mp4", section("sink", "prores"))
    odd = {"codec": ["h264"]}  # the sink itself tells that
    streams.check_output("video", "out.mp4", odd)
    assert streams.unnamed("video", odd) == ".mp4"


def test_what_another_sink_writes_is_not_meant(photo: Path) -> None:
    with pytest.raises(SinkError, match=r"which sink=video does not write: choose one of \.mp4"):
        streams.check_output("video", "out.png", {})


STRANGE = """
from strange.deep.base import Base as Other
class P(Other):
    room = "p"
class Made(Other):
    def __new__(cls, *given): ...
"""


def test_a_plugin_derived_from_another_class_is_read_by_that_ones_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "strange" / "deep").mkdir(parents=True)
    (tmp_path / "strange" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "strange" / "deep" / "plug.py").write_text(STRANGE)
    (tmp_path / "strange" / "deep" / "base.py").write_text(
        "class Base(nn.Module):\n    def __init__(self, a: int = 1): ...\nclass Loop(Loop): ..."
    )
    found = signatures._read("strange.deep.plug:P")
    assert found is not None
    assert [*found.parameters] == ["a"]
    assert signatures._read("strange.deep.plug:Made") is None
    assert signatures._read("strange.deep.base:Loop") is None


def test_the_parameters_of_both_feed_forward_stylers_are_read() -> None:
    for name in ("johnson", "swift"):
        with pytest.raises(ConfigError, match="wide"):
            signatures.check("styler", name, {"halo": "wide"})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"routes": {"person": "wavee"}}, "did you mean 'wave'"),
        ({"routes": ["person"], "styler": {"name": "johnson", "style": "wavee"}}, "'wave'"),
        ({"routes": {"person": {"style": "wave", "styler": "swift"}}}, "no swift weights"),
        ({"routes": {"a b": "wavee"}, "segmenter": {"name": "prompted"}}, "did you mean 'wave'"),
        ({"styler": {"name": "johnson", "weights": "my.pth"}}, "no weight file 'my.pth'"),
        ({"routes": {"person": {"weights": "my.pth"}}}, "no weight file 'my.pth'"),
        ({"segmenter": {"name": "smp", "weights": "my"}}, "no weight file 'my'"),
        ({"styler": {"name": "gatys", "style": "pantng.jpg"}}, "no file 'pantng.jpg'"),
        ({"styler": {"name": "microast", "style": ["photo.png", "p.jpg"]}}, "no file 'p.jpg'"),
        ({"styler": {"name": "magenta", "style": "p.jpg"}}, "no file 'p.jpg'"),
    ],
)
def test_a_style_or_a_weight_file_that_is_none_is_refused(
    photo: Path, given: dict[str, object], words: str
) -> None:
    with pytest.raises(CbsError, match=words):
        refuse(**given)


def test_styles_that_are_there_pass(photo: Path) -> None:
    (photo.parent / "mine.pth").touch()
    refuse(styler={"name": "magenta", "style": "7"})
    refuse(styler={"name": "magenta"}, routes={"person": 7})
    refuse(styler={"name": "gatys", "style": "photo.png"}, routes=["person"])
    refuse(routes={"person": {"weights": "mine.pth", "style": "any"}})
    refuse(styler={"name": "johnson", "weights": "mine.pth"}, routes=["person"])
    refuse(routes={"person": "none", "rest": "wave"})


def test_other_machines_may_have_files_that_this_one_has_not(photo: Path) -> None:
    batch = defaults("batch") | {"routes": {"person": "theirs"}}
    early.refuse(batch | {"engine": {"name": "ray"}}, "batch")
    with pytest.raises(CbsError, match="no johnson weights named 'theirs'"):
        early.refuse(batch, "batch")


def test_a_studios_styles_and_an_augmented_sets_are_looked_for(photo: Path) -> None:
    with pytest.raises(CbsError, match="did you mean 'wave'"):
        early.refuse(defaults("live") | {"styles": ["udnie", "wavee"]}, "live")
    for rule in (["wavee"], "wavee", {"styles": ["wave", "wavee"], "probability": 0.5}):
        with pytest.raises(CbsError, match="did you mean 'wave'"):
            early.refuse(defaults("augment") | {"routes": {"car": rule}}, "augment")


def test_a_point_outside_of_a_picture_is_refused_by_its_header(photo: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 30)).save("photo.jpg", exif=turned)
    refuse(input="photo.jpg", select="29,39")
    with pytest.raises(ConfigError, match="select=30,39 is outside the picture of 30x40"):
        refuse(input="photo.jpg", select="30,39")
    with pytest.raises(SourceError, match=r"'photo\.png' is no picture"):
        refuse(select="5000,5000")


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ("clip.mp4", "48x64"),  # it is turned
        ("folder", "48x32"),
        ("sample:cat", "451x300"),
        ("pan:folder/a.png", "36x24"),
    ],
)
def test_a_point_outside_of_what_other_sources_give(photo: Path, source: str, size: str) -> None:
    if source == "clip.mp4":
        make_clip(Path("clip.mp4"), frames=2, rotation=90)
    Path("folder").mkdir()
    Image.new("RGB", (48, 32)).save("folder/a.png")
    name = streams.source_for(source)
    before = sorted(photo.parent.rglob("*"))
    width, height = map(int, size.split("x"))
    config = configured(input="photo.png") | {"input": source}
    config["source"] = {**section("source", name), "path": source}
    early.refuse(config | {"select": f"{width - 1},{height - 1}"})
    for outside in (f"{width},0", f"0,{height}"):
        with pytest.raises(ConfigError, match=f"outside the picture of {size}"):
            early.refuse(config | {"select": outside})
    assert sorted(photo.parent.rglob("*")) == before


def test_a_part_of_a_video_is_not_sought_for_a_point(photo: Path) -> None:
    """It may be far inside; the run, which seeks it too, tells."""
    make_clip(Path("clip.mp4"), frames=2)
    config = configured() | {"input": "clip.mp4", "select": "64,0"}
    config["source"] = {**section("source", "video"), "path": "clip.mp4", "start": "1f"}
    early.refuse(config)
    with pytest.raises(SourceError, match="is no place in a video"):
        early.refuse(config | {"source": {**config["source"], "start": "soon"}})


LIGHT = [
    (kind, name)
    for kind in ("source", "sink")
    for name in REGISTRIES[kind].names()
    if streams.is_light(kind, name)
]


def test_sources_and_sinks_of_files_are_imported_without_torch() -> None:
    assert {name for _, name in LIGHT} == {"folder", "image", "pan", "sample", "video"}
    script = f"""
import sys
from cbs_core.choose.registry import REGISTRIES
for kind, name in {LIGHT}:
    REGISTRIES[kind].load(name)
print("torch" in sys.modules, "av" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False True"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sink": {"name": "video", "crf": 99}}, "crf=99"),
        ({"sink": {"name": "video", "codec": "libx26"}}, "no encoder 'libx26'"),
        ({"sink": {"name": "video", "size": "big"}}, "sink.size=big"),
        ({"sink": {"name": "video", "preset": "fst"}}, "no preset 'fst'"),
        ({"sink": {"name": "image", "quality": 0}, "output": "new.png"}, "sink.quality"),
        (
            {"sink": {"name": "folder", "compress_level": 10}, "output": "new"},
            "sink.compress_level",
        ),
        ({"source": {"name": "sample", "path": "cta"}}, "did you mean 'cat'"),
        ({"source": {"name": "pan", "path": "pan:phto.png"}}, "did you mean 'photo.png'"),
        ({"source": {"name": "pan", "path": "photo.png", "frames": 0}}, "frames=0"),
        ({"source": {"name": "video", "path": "photo.png", "start": 2, "end": 1}}, "source.end=1"),
    ],
)
def test_what_a_source_or_a_sink_itself_refuses(
    photo: Path, given: dict[str, object], words: str
) -> None:
    with pytest.raises(CbsError, match=re.escape(words)):
        early.refuse(configured() | {"sink": {"name": "null"}, "output": "new.mp4"} | given)
    if "sink" in given:  # and so does every command that has one; a batch's output is a folder
        with pytest.raises(CbsError, match=re.escape(words)):
            early.refuse({"sink": {**given["sink"], "path": "restyled"}}, "batch")


def test_what_is_said_of_builtin_parameters_is_true() -> None:
    for kind, plugins in presets.loaded(presets.conf_dir() / named.FILE).items():
        for name, said in plugins.items() if kind != "train" else ():
            plugin = REGISTRIES[kind].load(name)
            assert said.keys() <= {*inspect.signature(plugin).parameters}
            for one in said.values():
                what, _, usual = one.removeprefix(named.DUE).partition(named.USUAL)
                assert what in {*named._CHECKS, "text"} or set("|.") & {*what} or "above" in what
                assert not usual or usual in presets_of_weights(name)
            if any(one.startswith("weights") for one in said.values()):
                assert plugin.room == name


def test_what_is_said_of_builtin_trainings_is_true() -> None:
    told = presets.loaded(presets.conf_dir() / named.FILE)["train"]
    usual = presets.loaded(presets.conf_dir() / "train.yaml")
    for name, said in told.items():
        kind = "styler" if "style" in said else "segmenter"
        assert isinstance(REGISTRIES[kind].load(name), Trainable)
        assert said.keys() <= usual.keys()
        assert {*said.values()} <= places.CHECKS.keys()


@pytest.mark.usefixtures("photo")
def test_of_a_strangers_training_nothing_is_known() -> None:
    for name in ("dabnet", "smp"):
        with pytest.raises(CbsError, match="no folder or table 'scenes'"):
            places.check({"segmenter": {"name": name}, "data": "scenes"})
    with pytest.raises(CbsError, match="no folder or list of photographs 'scenes'"):
        places.check({"styler": {"name": "johnson"}, "data": "scenes"})
    places.check({"segmenter": {"name": "meadow"}, "data": "scenes", "style": "x", "init": "y"})


def presets_of_weights(name: str) -> set[str]:
    return {*weights.available(name)} | ({"starry_night"} if name == "swift" else set())


def ranges() -> Iterator[tuple[str, str, str, re.Match[str]]]:
    for kind, plugins in presets.loaded(presets.conf_dir() / named.FILE).items():
        for name, said in plugins.items():
            for key, what in said.items():
                if found := named.RANGE.fullmatch(what):
                    yield kind, name, key, found


@pytest.mark.parametrize(("kind", "name", "key", "given"), list(ranges()))
def test_how_large_a_number_may_be_is_what_the_plugin_itself_says(
    kind: str, name: str, key: str, given: re.Match[str], photo: Path
) -> None:
    usual = section(kind, name)
    Image.new("RGB", (32, 32)).save("painting.png")
    usual |= {"style": "painting.png"} if name in ("gatys", "magenta", "microast") else {}
    usual |= {"model": "./none"} if name == "huggingface" else {}
    usual |= {"weights": "photo.png"} if name == "swift" else {}  # of which none is released
    usual |= {"weights": "none.pth"} if name == "maskrcnn" else {}
    number = type(usual[key]) if type(usual[key]) in (int, float) else int
    step = 1 if number is int else 1e-4
    made = {one: value for one, value in usual.items() if one != "name"}

    def make(value: float) -> None:
        REGISTRIES[kind].create(name, **{**made, key: value})

    least, most = float(given[2]), float(given[3] or 1e6)
    ends = {least + step * bool(given[1]), most}
    beyond = {least - step * (not given[1]), *([most + step] if given[3] else [])}
    for value in map(number, ends):
        with suppress(WeightsError):  # which are not here
            make(value)
        refuse(**{kind: {**usual, key: value}})
    for value in map(number, beyond):
        with pytest.raises(ConfigError, match=rf"\b{key}\b"):
            make(value)
        with pytest.raises(ConfigError, match=rf"{kind}\.{key} must be .*, not"):
            refuse(**{kind: {**usual, key: value}})


def test_a_matte_that_cannot_be_written_is_refused(photo: Path) -> None:
    for output, words in (
        ("m.xyz", "'.xyz'.*choose one of .mp4"),
        ("photo.png/m.mp4", "is a file, not a folder"),
        ("rtmp2://m", "no sink writes to"),
    ):
        with pytest.raises(CbsError, match=words):
            refuse(output_matte=output)
    refuse(output_matte="m.mp4")
    refuse(output_matte="mattes/")


def test_a_strangers_file_that_is_odd_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "preset_dirs", lambda: {"strange": tmp_path})
    for text in ("[1", "[]", "styler: 3", "styler: {pastel: [a]}", "styler: {pastel: {a: soup}}"):
        (tmp_path / named.FILE).write_text(text)
        named.check("styler", "pastel", {"a": "b"})
    (tmp_path / named.FILE).write_text("styler: {pastel: {a: file}}")
    with pytest.raises(CbsError, match="no weight file 'b'"):
        named.check("styler", "pastel", {"a": "b"})


def test_what_a_scene_calls_its_parts_is_no_class(photo: Path) -> None:
    scene = defaults("scene")
    for word in ("material:red", "material/red", "not object/door"):
        early.refuse(scene | {"routes": {word: "wave"}}, "scene")
        early.refuse(scene | {"routes": ["person", word]}, "scene")
    early.refuse(scene | {"routes": {"red": "wave"}, "labels": "material"}, "scene")
    with pytest.raises(CbsError, match="no class 'red'"):
        early.refuse(scene | {"routes": {"red": "wave"}}, "scene")
    with pytest.raises(CbsError, match="did you mean 'wave'"):
        early.refuse(scene | {"routes": {"material:red": "wavee"}}, "scene")


def words() -> Iterator[tuple[str, str, str, list[str]]]:
    for kind, plugins in presets.loaded(presets.conf_dir() / named.FILE).items():
        for name, said in plugins.items():
            for key, what in said.items():
                if named.WORDS in what:
                    yield kind, name, key, what.split(named.WORDS)


@pytest.mark.parametrize(("kind", "name", "key", "known"), list(words()))
def test_words_that_a_plugin_takes_are_what_it_says_itself(
    kind: str, name: str, key: str, known: list[str], photo: Path
) -> None:
    Image.new("RGB", (32, 32)).save("painting.png")
    made = {one: value for one, value in section(kind, name).items() if one != "name"}
    made |= {"style": "painting.png"} if kind == "styler" else {}
    made |= {"model": "./none"} if name in ("huggingface", "sam") else {}
    made |= {"weights": "none.pth"} if name == "maskrcnn" else {}
    for word in known:
        with suppress(WeightsMissingError):  # which may not be here
            REGISTRIES[kind].create(name, **{**made, key: word})
    slip = f"{known[0]}q"
    with pytest.raises(CbsError, match=slip):
        REGISTRIES[kind].create(name, **{**made, key: slip})
    with pytest.raises(ConfigError, match=rf"{kind}\.{key}={slip} is unknown; did you mean"):
        refuse(**{kind: {"name": name, **made, key: slip}})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"routes": {"tigr": "wave"}, "segmenter": {"name": "auto"}}, "no class 'tigr'"),
        ({"routes": ["car", "zebra crossing"], "segmenter": {"name": "auto"}}, "zebra crossing"),
        ({"styler": {"name": "gatys"}}, "give styler.style=PICTURE"),
        ({"styler": {"name": "microast"}, "routes": ["person"]}, "give styler.style=PICTURE"),
        ({"styler": {"name": "microast", "style": []}}, "give styler.style=PICTURE"),
        ({"styler": {"name": "magenta"}}, "give styler.style=PICTURE"),
        ({"routes": {"person": {"styler": "gatys"}}}, "give styler.style=PICTURE"),
        ({"routes": {"person": {"styler": "gatys", "style": "p.jpg"}}}, "no file 'p.jpg'"),
        ({"routes": {"person": {"style": "wave", "hallo": 3}}}, "did you mean 'halo'"),
        ({"styler": {"name": "swift", "weights": None}}, "no swift weights"),
        ({"styler": {"name": "onnx"}}, "give styler.weights=FILE"),
        ({"segmenter": {"name": "timm"}}, "give segmenter.weights=FILE"),
        ({"segmenter": {"name": "huggingface", "model": None}}, "give segmenter.model=NAME"),
        ({"segmenter": {"name": "dabnet", "vocabulary": "camvd"}}, "did you mean 'camvid'"),
        ({"segmenter": {"name": "dabnet", "vocabulary": "coco"}}, "no dabnet weights named 'coco'"),
        ({"device": "cuda:0"}, "it finds no GPU"),
        ({"styler": {"name": "magenta", "style": 26}}, "styler.style must be 0 to 25, not 26"),
        ({"styler": {"name": "magenta", "style": "-1"}}, "styler.style must be 0 to 25"),
        ({"resume": True}, "resume=true is for a file as input="),
        ({"resume": True, "output": ["a.mp4", "b.mp4"]}, "resume=true is for a file as input="),
    ],
)
def test_what_is_due_or_cannot_be(
    photo: Path, given: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "_driver", lambda: False)
    with pytest.raises(CbsError, match=re.escape(said)):
        refuse(**given)


def test_what_is_chosen_by_words_or_has_its_own_style_passes(photo: Path) -> None:
    refuse(routes={"car": "wave", "rest": "udnie"}, segmenter={"name": "auto"})
    refuse(segmenter={"name": "auto"})
    Image.new("RGB", (32, 32)).save("painting.png")
    refuse(styler={"name": "gatys"}, routes={"person": {"style": "painting.png"}})
    refuse(styler={"name": "gatys"}, routes={"person": "painting.png", "cat": "none"})
    refuse(styler={"name": "swift", "weights": "photo.png"})
    lone = presets.defaults("batch") | {"input": "photo.png", "styler": {"name": "gatys"}}
    with pytest.raises(ConfigError, match=r"give styler\.style=PICTURE"):
        early.refuse(lone, "batch")


def test_a_gpu_is_judged_by_torchs_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    monkeypatch.setattr(
        asked, "find_spec", lambda _: SimpleNamespace(origin=str(tmp_path / "torch/__init__.py"))
    )

    def of(text: str, *, driver: bool) -> str:
        (tmp_path / "torch" / "version.py").write_text(f"__version__ = '9'\n{text}")
        monkeypatch.setattr(asked, "_driver", lambda: driver)
        try:
            asked.check_cuda("cuda")
        except asked.DeviceError as error:
            return str(error)
        return ""

    typed = "cuda: Optional[str] = {}\nhip: Optional[str] = {}\n"
    assert "torch 9 cannot use a GPU (it is built without CUDA)" in of(
        typed.format(None, None), driver=True
    )
    assert "it finds no GPU" in of("cuda = '13.0'\nhip = None\n", driver=False)
    assert of(typed.format("'13.0'", None), driver=True) == ""
    assert of(typed.format(None, "'6.4'"), driver=False) == ""
    asked.check_cuda("cpu")
    asked.check_cuda(None)


def test_the_frame_of_a_preview_is_looked_for(photo: Path) -> None:
    make_clip(Path("clip.mp4"), frames=10)
    config = configured() | {"input": "clip.mp4", "output": "out.mp4"}
    config["source"] = {**section("source", "video"), "path": "clip.mp4"}
    early.refuse(config | {"preview": "9f"})
    for behind in ("10f", "01:00", 7):
        with pytest.raises(SourceError, match=r"has no frame at preview="):
            early.refuse(config | {"preview": behind})


@pytest.mark.parametrize(
    ("output", "pixels", "said"),
    [
        ("o.mp4", "yuv420", "takes no pixel format 'yuv420'; did you mean 'yuv420p'"),
        ("o.mp4", "pal8", "libx264 takes no pixel format 'pal8'"),
        ("o.mov", "bgr4", "takes no pixel format 'bgr4'"),
    ],
)
def test_a_pixel_format_that_the_encoder_has_not(
    photo: Path, output: str, pixels: str, said: str
) -> None:
    sink = {**section("sink", "video"), "pixel_format": pixels}
    with pytest.raises(SinkError, match=said):
        early.refuse(configured(output=output) | {"sink": {**sink, "path": output}})
    with pytest.raises(SinkError, match="takes no pixel format"):
        early.refuse({"sink": {**sink, "path": "restyled"}}, "batch")


def test_what_only_some_outputs_of_a_batch_can_hold_is_left_to_them(photo: Path) -> None:
    for key, value in (("pixel_format", "yuva444p10le"), ("crf", 60)):
        sink = {**section("sink", "video"), "path": "restyled", key: value}
        early.refuse({"sink": sink}, "batch")
        with pytest.raises(SinkError):
            early.refuse(configured(output="o.mp4") | {"sink": {**sink, "path": "o.mp4"}})


@pytest.mark.parametrize("command", ["config", "live"])
@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("o.xyz", "choose one of .mp4"),
        ("photo.png/o.mp4", "is a file, not a folder"),
        ({"name": "video", "path": "o.mp4", "codec": "libx26"}, "no encoder 'libx26'"),
        ({"name": "video", "path": "o.mp4", "codc": "libx264"}, "did you mean 'codec'"),
        ({"name": "vdeo", "path": "o.mp4"}, "did you mean 'video'"),
        ("photo.png", "photo.png"),
    ],
)
def test_each_of_several_outputs_is_looked_at(
    photo: Path, command: str, output: object, said: str
) -> None:
    usual = configured() if command == "config" else defaults(command)
    early.refuse(usual | {"output": ["good.mp4", "good.png"]}, command)
    before = sorted(photo.parent.rglob("*"))
    with pytest.raises(CbsError, match=said):
        early.refuse(usual | {"output": ["good.mp4", output]}, command)
    assert sorted(photo.parent.rglob("*")) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no os.mkfifo: it is of POSIX systems alone")
@pytest.mark.parametrize(
    "read",
    [
        labelled.read_rgb,
        labelled.place,
        photos.place,
        journal.read,
        outlines.Coco,
        camera_files._content,
        lambda path: painting({"painting": str(path)}),
    ],
)
def test_a_pipe_without_a_writer_is_refused_unopened(
    read: Callable[[Path], object], photo: Path
) -> None:
    os.mkfifo("pipe")
    with pytest.raises(SourceError, match="'pipe' is a pipe or a device"):
        read(Path("pipe"))


def test_an_evaluation_says_early_that_it_needs_a_painting(photo: Path) -> None:
    config = defaults("eval") | {"data": str(photo.parent), "segmenter": None}
    config["styler"] = section("styler", "johnson")
    with pytest.raises(ConfigError, match="say painting=FILE"):
        chosen(config)
