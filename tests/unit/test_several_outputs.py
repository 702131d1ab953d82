"""``output=[window, out.mp4]``, ``policy``, ``timeout_s``, ``max_age_ms``: from words to a run."""

import json
import time

import pytest

from cbs_core.choose import streams
from cbs_core.choose.presets import defaults
from cbs_core.choose.streams import sink_for, source_for
from cbs_core.cli.arguments import normalise
from cbs_core.contract.errors import ConfigError, SinkError, SourceLostError
from cbs_core.run.settings import parse
from cbs_core.testing.runs import (
    CameraSource,
    ClipSource,
    FailingSink,
    MemorySink,
    StalledSource,
)
from tests.jobs import job, registered


@pytest.fixture
def declared(tmp_path, monkeypatch):
    """A stranger's devices and addresses."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "streams.yaml").write_text(
        "source:\n  desk: {bare: true, sink: screen_wall}\n  feed: {schemes: [foo, bar+tls]}\n"
        "sink:\n  screen_wall: {bare: true}\n  feed: {schemes: [foo]}\n"
    )
    own = streams.preset_dirs()
    monkeypatch.setattr(streams, "preset_dirs", lambda: own | {"cbs_stranger": tmp_path / "conf"})
    streams._read.cache_clear()
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("declared")
def test_a_bare_name_and_a_scheme_choose_the_plugin(tmp_path):
    assert [source_for("desk"), sink_for("screen_wall")] == ["desk", "screen_wall"]
    assert [source_for("foo://a/b.mp4"), source_for("BAR+TLS://a")] == ["feed", "feed"]
    assert sink_for("foo://a/b.mp4") == "feed"
    assert not streams.is_for_files("sink", "feed")
    assert streams.is_for_files("sink", "video")
    (tmp_path / "desk").mkdir()
    assert source_for("desk") == "folder", "a folder of that name goes first"
    with pytest.raises(ConfigError, match="no source reads 'ftp://'"):
        source_for("ftp://a/b.mp4")
    with pytest.raises(ConfigError, match="no source reads 'gs://': cbs-batch does; or name a"):
        source_for("gs://a/b.mp4")


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("[screen_wall,out (1).mp4]", ["output=['screen_wall','out (1).mp4']", "screen_wall"]),
        ("[ b.mp4 , c.png ]", ["output=['b.mp4','c.png']", "video"]),
        ("['a,b.mp4',\"c d.png\"]", ["output=['a,b.mp4',\"c d.png\"]", "video"]),
        ("[{name: video, path: x.mp4}, y.png]", None),
    ],
)
def test_the_words_of_a_list(output, expected):
    words = normalise(["input=clip.mp4", f"output={output}"])
    if expected is None:
        expected = ["output=[{name: video, path: x.mp4},'y.png']", "image"]
    assert words == ["input='clip.mp4'", expected[0], "source=video", f"sink={expected[1]}"]


def test_sink_says_which_of_a_list_its_keys_are_for():
    words = normalise(["input=clip.mp4", "output=[a.png,b.mp4]", "sink=video", "sink.crf=20"])
    assert words.count("sink=video") == 1
    assert "sink=image" not in words
    found = parse(
        {
            **defaults(),
            "output": ["a.png", "b.mp4", {"name": "video", "path": "c.mp4", "crf": 30}],
            "sink": {"name": "video", "crf": 20},
        }
    ).outputs
    assert [(one.name, one.params["path"], one.params.get("crf")) for one in found] == [
        ("image", "a.png", None),
        ("video", "b.mp4", 20),
        ("video", "c.mp4", 30),
    ]
    assert found[2].params["preset"] == "veryfast", "the rest is the preset's"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"output": []}, r"output=\[\] names nothing"),
        ({"output": ["a.mp4", "a.mp4"]}, "names 'a.mp4' twice"),
        ({"output": ["a.mp4", 7]}, "'7' is no output"),
        ({"output": ["foo://x"]}, "no sink writes to 'foo://': name a"),
        ({"output": ["s3://a/b.mp4"]}, "no sink writes to 's3://': cbs-batch does; or name a"),
        ({"output": ["http://a/b.mp4"]}, "no sink writes to 'http://': name a"),
        ({"policy": "newest"}, "policy=newest is none of auto, every_frame, freshest"),
        ({"timeout_s": 0}, "timeout_s=0 is no number above 0"),
        ({"timeout_s": True}, "timeout_s=True is no number above 0"),
        ({"max_age_ms": "old"}, "max_age_ms=old is no number above 0"),
        ({"max_age_ms": float("nan")}, "max_age_ms=nan is no number above 0"),
        ({"max_age_ms": 9, "policy": "every_frame"}, "policy=every_frame keeps them"),
    ],
)
def test_what_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        parse({**defaults(), **changes})


def test_a_job_writes_to_all_and_tells_of_each(tmp_path, monkeypatch):
    kept, failing = MemorySink(), FailingSink(3, SinkError("no space left"))
    registered(
        monkeypatch,
        source={"desk": lambda path=None: ClipSource(10)},
        sink={"kept": lambda path=None: kept, "failing": lambda path=None: failing},
    )
    clip = str(tmp_path / "out.mp4")
    report = job(tmp_path, source={"name": "desk"}, output=["kept:", "failing:", clip]).run()
    assert len(kept.frames) == 10
    assert (kept.calls, failing.calls) == (["open", "close True"], ["open", "abort"])
    told = json.loads(next(tmp_path.glob("*report.json")).read_text())
    assert told["output"] == clip
    assert [(one["output"], one["frames"], one["failed"]) for one in told["outputs"]] == [
        ("kept:", 10, None),
        ("failing:", 3, "no space left"),
        (clip, 10, None),
    ]
    assert set(told["plugins"]) >= {"sink/kept", "sink/failing", "sink/video"}
    assert report.frames == "10 frames"
    with pytest.raises(SinkError, match=r"1 of 3 outputs ended early: failing: \(no space left\)"):
        report.check()  # so that the exit code tells of it


def test_a_sink_that_fails_is_the_runs_failure_where_it_is_the_only_one(tmp_path, monkeypatch):
    registered(
        monkeypatch,
        source={"desk": lambda path=None: ClipSource(10)},
        sink={"failing": lambda path=None: FailingSink(3, SinkError("no space left"))},
    )
    with pytest.raises(SinkError, match="no space left"):
        job(tmp_path, source={"name": "desk"}, output=["failing:"]).run()


def test_the_pace_reaches_the_run(tmp_path, monkeypatch):
    kept = MemorySink()
    sources = iter([StalledSource(2), CameraSource(12, seconds=0.01), ClipSource(3)])
    registered(
        monkeypatch,
        source={"desk": lambda path=None: next(sources)},
        sink={"kept": lambda: kept},
    )
    config = {"source": {"name": "desk"}, "sink": {"name": "kept"}, "report": None}
    begun = time.monotonic()
    lost = job(tmp_path, **config, timeout_s=0.3).run()
    assert time.monotonic() - begun < 5
    assert isinstance(lost.cut, SourceLostError)
    assert "no frame for 0.3 s" in str(lost.cut)
    kept.frames.clear()
    job(tmp_path, **config, policy="every_frame").run()
    assert len(kept.frames) == 12
    with pytest.raises(ConfigError, match="'fake' is no live source"):
        job(tmp_path, **config, max_age_ms=100).run()
