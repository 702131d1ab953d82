"""What a person types reaches the plugins unchanged, whatever Hydra's grammar thinks of it."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cbs_core.choose.streams import sink_for, source_for
from cbs_core.cli.arguments import normalise, quote
from cbs_core.contract.errors import ConfigError

ODD_NAMES = [
    "clip (1).mp4",
    "it's.mp4",
    '"quoted".mp4',
    "a,b.mp4",
    "a=b.mp4",
    "[a] {b: c}.mp4",
    "$HOME.mp4",
    "${input}.mp4",
    "\\${x}\\\\${y}.mp4",
    "back\\slash.mp4",
    "ends\\",
    "ends'\\'",
    "'",
    "#1 100%.mp4",
    " space .mp4",
    "-dash.mp4",
    "~.mp4",
    "a:b?c&d.mp4",
    "Été 雪 🎨.mp4",
    "new\nline.mp4",
    "caf\udce9.mp4",
    "123",
    "true",
]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def hydra_reads(override: str) -> object:
    """The value that Hydra, and then OmegaConf, make of one argument."""
    parsed = OverridesParser.create().parse_override(override)
    return OmegaConf.create({"key": parsed.value()}).key


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("key", ["input", "output", "styler.weights", "+source.path"])
def test_odd_file_names_arrive_unchanged(key: str, name: str) -> None:
    assert str(hydra_reads(normalise([f"{key}={name}"])[0])) == name


def test_a_value_quoted_for_hydra_is_left_alone() -> None:
    assert normalise(["input='a b.mp4'"])[0] == "input='a b.mp4'"
    assert normalise(["input='a b.mp4'"])[1:] == ["source=video", "sink=video"]


def test_an_existing_file_is_quoted_even_in_its_quotes(tmp_path: Path) -> None:
    (tmp_path / "'a'").touch()
    assert hydra_reads(normalise(["input='a'"])[0]) == "'a'"


@pytest.mark.parametrize("arg", ["input=null", "input=???", "routes={car: wave}", "-m", "a"])
def test_other_arguments_are_left_alone(arg: str) -> None:
    assert arg in normalise([arg])


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("null", "sample"),
        ("sample:cat", "sample"),
        ("pan:photo.jpg", "pan"),
        ("photo.jpg", "image"),
        ("PHOTO.JPG", "image"),
        ("a:b.png", "image"),
        ("a?b=c.png", "image"),
        ("a.avif", "image"),
        ("a.webp", "image"),
        ("a.tga", "image"),
        ("moves.gif", "video"),
        ("clip.mp4", "video"),
        ("no_suffix", "video"),
        ("folder", "folder"),
        ("folder.png", "folder"),
        ("~", "folder"),
    ],
)
def test_source_by_what_the_input_names(tmp_path: Path, path: str, source: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.png").mkdir()
    assert source_for(path) == source


@pytest.mark.parametrize(
    ("path", "sink"),
    [
        ("a.png", "image"),
        ("a.TIFF", "image"),
        ("a.mp4", "video"),
        ("a.gif", "video"),
        ("a", "folder"),
        ("a.d/", "folder"),
        ("folder.png", "folder"),
        ("null:", "null"),
    ],
)
def test_sink_by_what_the_output_names(tmp_path: Path, path: str, sink: str) -> None:
    (tmp_path / "folder.png").mkdir()
    assert sink_for(path) == sink


@pytest.mark.parametrize(
    ("argv", "chosen"),
    [
        ([], []),
        (["styler=none"], []),
        (["input=a.png"], ["source=image", "sink=image"]),
        (["input=a.mp4"], ["source=video", "sink=video"]),
        (["input=pan:a.png"], ["source=pan", "sink=video"]),
        (["source=pan"], ["sink=video"]),
        (["input=a.mp4", "output=frames"], ["source=video", "sink=folder"]),
        (["output=a.jpg"], ["sink=image"]),
        (["input=a.mp4", "sink=null"], ["source=video"]),
        (["input=a.mp4", "source=video", "sink=folder"], []),
        (["-m", "input=a.png,b.jpg"], ["source=image", "sink=image"]),
    ],
)
def test_chosen_source_and_sink(argv: list[str], chosen: list[str]) -> None:
    added = [arg for arg in normalise(argv) if arg.startswith(("source=", "sink="))]
    given = [arg for arg in argv if arg.startswith(("source=", "sink="))]
    assert [arg for arg in added if arg not in given and arg != "sink='null'"] == chosen


def test_no_sink_is_the_null_sink() -> None:
    assert hydra_reads("sink='null'") == "null"
    assert "sink='null'" in normalise(["sink=null"])


@pytest.mark.parametrize(
    "flags",
    [
        *(
            [],
            ["-sc"],
            ["--info", "searchpath"],
            ["--info"],
            ["--cfg", "job"],
            ["--cfg=job"],
            ["-m"],
        ),
        *(["--config-dir", "a=b"], ["-cd", "my presets", "--multirun"], ["--config-d", "x"]),
    ],
)
def test_flags_may_stand_anywhere(flags: list[str]) -> None:
    argv = normalise(["styler=none", *flags, "matte=soft"])
    assert argv == ["styler=none", "matte=soft", *flags]


def test_a_point_is_one_value_unless_it_is_swept_over() -> None:
    assert hydra_reads(normalise(["select=320,200"])[0]) == "320,200"
    assert hydra_reads(normalise(["select=-5, 10"])[0]) == "-5, 10"
    assert hydra_reads(normalise(["select=[320,200]"])[0]) == [320, 200]
    for arg in ("select='320,200'", "select=largest", "select=2"):
        assert normalise([arg]) == [arg]
    assert "select=1,2" in normalise(["-m", "select=1,2"])


def test_a_sweep_over_files_with_odd_names(tmp_path: Path) -> None:
    for name in ("it's.png", "a (1).png"):
        (tmp_path / name).touch()
    swept = normalise(["-m", "input=it's.png,a (1).png"])[0]
    assert swept == "input=" + quote("it's.png") + "," + quote("a (1).png")


def test_a_sweeps_list_is_not_written_over(tmp_path: Path) -> None:
    sweep = ["-m", f"hydra.sweep.dir={tmp_path}", "styler.style=wave,udnie"]
    assert normalise(sweep)
    (tmp_path / "multirun.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"has a multirun\.yaml already: name another folder"):
        normalise(sweep)


def test_a_quiet_sweep_silences_hydra() -> None:
    assert "hydra.hydra_logging.root.level=WARNING" in normalise(["-m", "quiet=true"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--input=a.png"], "without dashes"),
        (["-q"], "no flag '-q'"),
        (["input="], "input= names nothing"),
        (["output=''"], "output= names nothing"),
        (["styler=null"], "styler=null chooses no plugin"),
        (["select=" + "9" * 5000], "select=9+... is a number of a thousand digits"),
        (["-m", "input=a.png,b.mp4"], "one kind at a time"),
    ],
)
def test_what_is_refused(argv: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        normalise(argv)


def test_no_flag_unpickles_a_file() -> None:
    with pytest.raises(ConfigError, match="no flag '--experimental-rerun'"):
        normalise(["--experimental-rerun", "outputs/.hydra/config.pickle"])


@pytest.mark.parametrize("flags", [["--config-dir", "mine"], ["--config-path=mine"]])
def test_a_job_in_a_file_chooses_source_and_sink(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    job = Path("mine/job.yaml")
    flags = [*flags, "--config-name=job"]
    job.write_text("defaults: [config, _self_]\ninput: clip.mp4\noutput: frames\n")
    found = normalise(flags)
    assert found[:2] == ["source=video", "sink=folder"]
    assert found[2].startswith("--config-dir")
    assert normalise([*flags, "input=photo.png"])[1:3] == ["source=image", "sink=folder"]
    job.write_text("defaults: [config, {override source: pan}, _self_]\ninput: photo.png\n")
    assert normalise(flags)[0] == "sink=video"
    for text in ("input: photo.png\n", "defaults: null\n", "[a]\n"):
        job.write_text(text)
        with pytest.raises(ConfigError, match="must begin with 'defaults"):
            normalise(flags)
    job.rename("mine/train.yaml")
    with pytest.raises(ConfigError, match="rename it"):
        normalise([*flags[:-1], "--config-name=train"])


@pytest.mark.parametrize("url", ["gopher://localhost/live", "ftp://1.2.3.4:5", "http://x/a.mp4"])
def test_a_url_that_no_sink_takes_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no sink writes to"):
        normalise([f"output={url}"])


@pytest.mark.parametrize(
    "routes",
    [
        """{"red car": wave, "the dog's ball": {style: udnie, strength: 0.5}}""",
        "{car: a, 'b c': d}",
    ],
)
def test_quoted_names_of_routes_come_through(routes):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from cbs_core.choose import userfiles

    (argument,) = [one for one in normalise([f"routes={routes}"]) if one.startswith("routes=")]
    (parsed,) = OverridesParser.create().parse_overrides([argument])
    assert parsed.value() == routes
    assert userfiles.inline("routes", parsed.value())["b c" if "b c" in routes else "red car"]


@pytest.mark.parametrize("routes", ["{car: wave}", "{car: {weights: 'a b.pth'}}", "[car]"])
def test_routes_that_hydra_reads_stay_as_they_are(routes):
    assert f"routes={routes}" in normalise([f"routes={routes}"])
