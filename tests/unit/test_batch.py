"""A batch, in the test's own process, of plugins that take no time."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from cbs_plugins.nets.johnson import TransformerNet
from cbs_plugins.sources.video import VideoSource
from PIL import Image

from cbs_core.batch import items, restyling, tasks, units
from cbs_core.batch.coordinator import Coordinator
from cbs_core.batch.items import Item, Naming, find
from cbs_core.batch.journal import Journal
from cbs_core.batch.local import LocalEngine
from cbs_core.batch.pieces import Part, cut, fit
from cbs_core.batch.progress import Shown
from cbs_core.batch.session import batch_session
from cbs_core.batch.tasks import Done, Made, Surveyed
from cbs_core.choose import streams
from cbs_core.choose.presets import defaults
from cbs_core.contract.engines import Outcome, Task
from cbs_core.contract.errors import CbsError, ConfigError, SourceError
from cbs_core.contract.windows import Index
from cbs_core.machine.terminal import PlainConsole
from tests import jobs
from tests.conftest import ROOT
from tests.integration.test_video_rest import full_matroska, kinds, texts
from tests.media import cut as cut_short
from tests.media import frame_times as times
from tests.media import make_clip, picture, sound_packets
from tests.media import rgb_frames as frames

LOSSLESS = {"name": "video", "crf": 0, "pixel_format": "yuv444p"}


class Bright:
    """Finds ``sky`` where a picture is bright, and here and there where it is not, by its frame."""

    classes = ("background", "sky")
    calls = 0
    last: int | None = None
    """The call in which the process is killed."""

    def __call__(self, image):
        type(self).calls += 1
        if self.calls == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        grey = image.mean(1, keepdim=True)
        noise = ((grey * 255).round() * 7919 + image.sum() * 31).sin()
        return torch.cat([torch.zeros_like(grey), (grey - 0.45) * 20 + noise], 1)


class Flaky(LocalEngine):
    """Loses its worker in tasks with a word in their names, so many times; and counts."""

    lose: ClassVar[Counter[str]] = Counter()
    interrupt: str | None = None
    seen: ClassVar[list[str]] = []

    def wait(self):
        task = self._tasks[0]
        self.seen.append(task.name)
        if task.name == self.interrupt:
            raise KeyboardInterrupt
        for word in self.lose:
            if word in task.name and self.lose[word]:
                self.lose[word] -= 1
                return Outcome(self._tasks.popleft(), lost=True, worker="local")
        return super().wait()


def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenters = {"bright": Bright, "late": Late}
    jobs.registered(monkeypatch, segmenter=segmenters, engine={"flaky": Flaky})


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugged(monkeypatch)
    monkeypatch.setattr(Flaky, "lose", Counter())
    monkeypatch.setattr(Flaky, "interrupt", None)
    monkeypatch.setattr(Flaky, "seen", [])
    monkeypatch.chdir(tmp_path)


def said(**more: object) -> dict[str, object]:
    fast = {
        "segmenter": {"name": "bright"},
        "styler": {"name": "invert"},
        "accelerator": {"name": "eager"},
        "scheduler": {"name": "serial"},
        "engine": {"name": "flaky"},
        "sink": LOSSLESS,
        "device": "cpu",
        "precision": "fp32",
        "routes": ["sky"],
        "steady": "off",
        "quiet": True,
        "output": "out",
    }
    return {**defaults("batch"), **fast, **more}


def batch(**more: object) -> int:
    return batch_session(said(**more))


def kept(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def told(path: str = "out.report.json") -> dict[str, dict[str, object]]:
    return {one["input"]: one for one in json.loads(Path(path).read_text())["items"]}


def in_one_piece(clip: Path, output: str, **more: object) -> Path:
    config = {key: value for key, value in said(**more).items() if key != "report"}
    report = jobs.job(Path(), **{**config, "input": str(clip), "output": output, "report": None})
    assert report.run() is not None
    return Path(output)


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(picture(number, 32, 24)).save(folder / f"p{number}.png")
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 frames at uneven times with sound, in groups of 12, with B-frames."""
    folder = tmp_path_factory.mktemp("clip")
    ticks = [i * 40 + (i % 3) * 7 for i in range(300)]
    base = Fraction(1, 1000)
    return make_clip(folder / "clip.mp4", frames=300, ticks=ticks, time_base=base, sound=12)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 frames."""
    return make_clip(tmp_path_factory.mktemp("short") / "short.mp4", frames=90)


@pytest.fixture(scope="module")
def whole() -> dict[str, list[np.ndarray]]:
    """What a run in one piece makes of `clip`; filled when it is asked for."""
    return {}


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(*pair) for pair in zip(a, b, strict=True))


@pytest.mark.parametrize(("window", "count"), [(300, 1), (100, 3), (42, 7)])
def test_windows_make_the_run_in_one_piece(
    clip: Path, whole: dict[str, list[np.ndarray]], window: int, count: int
) -> None:
    if not whole:
        whole["off"] = frames(in_one_piece(clip, "whole.mp4"))
    assert batch(input=str(clip), window=window) == 0
    assert told()[str(clip)]["windows"] == {"all": count, "made_before": 0}
    out = Path("out/clip.mp4")
    assert times(out) == times(clip)
    assert sound_packets(out) == sound_packets(clip)
    assert len(whole["off"]) == 300
    assert same(frames(out), whole["off"])
    assert kept("out.batch") == ["journal.jsonl"]
    assert [path.name for path in Path("out").iterdir()] == ["clip.mp4"]


def test_steady_mattes_are_nearly_those_of_the_run_in_one_piece(short: Path) -> None:
    due = frames(in_one_piece(short, "whole.mp4", steady="matte"))
    apart = frames(in_one_piece(short, "apart.mp4"))
    assert batch(input=str(short), window=30, steady="matte") == 0
    assert told()[str(short)]["windows"] == {"all": 3, "made_before": 0}
    out = frames(Path("out/short.mp4"))

    def differ(a: list[np.ndarray], b: list[np.ndarray]) -> float:
        pairs = zip(a, b, strict=True)
        return float(np.mean([(abs(x.astype(int) - y) > 1).any(-1).mean() for x, y in pairs]))

    # Everything leaps in this clip, and a pixel of it is 0.03%; for real ones see `RUN_UP`.
    assert differ(out, due) <= 4e-3
    assert differ(apart, due) > 1e-2


@pytest.mark.parametrize(
    "more",
    [{"segment_every": 7, "steady": "matte"}, {"select": "largest"}, {"steady": "full"}],
    ids=["carried", "one object", "strokes"],
)
def test_what_goes_on_from_frame_to_frame_is_handed_on(
    short: Path, more: dict[str, object]
) -> None:
    due = frames(in_one_piece(short, "whole.mp4", **more))
    assert batch(input=str(short), window=40, **more) == 0
    assert told()[str(short)]["windows"] == {"all": 2, "made_before": 0}
    assert same(frames(Path("out/short.mp4")), due)


class Late:
    """Finds ``sky`` where a picture is bright, once the bright block is far to the right."""

    classes = ("background", "sky")

    def __call__(self, image):
        bright = (image.mean(1, keepdim=True) > 0.85).float()
        late = bright[..., 36:].sum() > bright[..., :36].sum()
        return torch.cat([torch.zeros_like(bright), bright * late * 9 - 4], 1)


def test_statistics_that_are_taken_once_are_handed_to_every_window(tmp_path: Path) -> None:
    """The style shows first in the second window; the third and fourth do not wait."""
    late = make_clip(tmp_path / "late.mp4", frames=34)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(TransformerNet(8).state_dict(), "style.pth")
    styler = {"name": "johnson", "weights": "style.pth", "where": None, "statistics": "frozen"}
    words = {"styler": styler, "segmenter": {"name": "late"}}
    due = frames(in_one_piece(late, "whole.mp4", **words))
    assert batch(input=str(late), window=8, **words) == 0
    assert told()[str(late)]["windows"] == {"all": 4, "made_before": 0}
    assert same(frames(Path("out/late.mp4")), due)
    plain = frames(
        in_one_piece(late, "plain.mp4", **words | {"styler": {**styler, "statistics": "frame"}})
    )
    assert not same(plain, due)


def test_subtitles_and_all_else_come_over(tmp_path: Path) -> None:
    source = full_matroska(tmp_path / "film.mkv")
    assert batch(input=str(source), window=10) == 0
    out = Path("out/film.mkv")
    assert told()[str(source)]["windows"] == {"all": 3, "made_before": 0}
    assert (kinds(out), texts(out), sound_packets(out)) == (
        kinds(source),
        texts(source),
        sound_packets(source),
    )


KILLED = """
import sys
import pytest
from tests.unit import test_batch as test
test.plugged(pytest.MonkeyPatch())
test.Bright.last = 70  # in the third window of four
test.batch(input=sys.argv[1], window=24)
"""


def test_a_driver_that_is_killed_costs_the_window_under_way(short: Path) -> None:
    due = frames(in_one_piece(short, "whole.mp4"))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(short)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=250,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not Path("out").exists()
    assert batch(input=str(short), window=24) == 0
    windows = [name for name in Flaky.seen if name[-1].isdigit()]
    assert windows == ["short.mp4 48-72", "short.mp4 72-90"]
    assert told()[str(short)]["windows"] == {"all": 4, "made_before": 2}
    assert same(frames(Path("out/short.mp4")), due)
    assert kept("out.batch") == ["journal.jsonl"]


def test_no_folder_of_outputs_is_read_for_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand names for each of ten thousand pictures are a hundred million."""
    pictures(Path("in"), 30)
    seen: list[Path] = []
    plain = Path.iterdir

    def iterdir(self):
        for one in plain(self):
            seen.append(one)
            yield one

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert batch(input="in", pictures=10) == 0
    assert len(list(Path("out").iterdir())) == 30
    assert len([one for one in seen[:-30] if one.suffix == ".png"]) <= 30


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", '{"input": "a.png", "ouput": "b.png"}', "'ouput'; did you mean 'output'?"),
        ("a.csv", "input,ouput\na.png,b.png\n", "'ouput'; did you mean 'output'?"),
        ("a.csv", "input,output\na.png,b.png,c.png\n", "more in a line than it has columns"),
        ("a.txt", "a.png\0\n", "a null byte in"),
        ("a.jsonl", '{"input": "a.png", "output": "\\u0000.png"}', "a null byte in"),
    ],
)
def test_a_manifest_says_nothing_but_what_is_known(
    name: str, text: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=re.escape(told)):
        [*items._listed(tmp_path / name)]
    (tmp_path / name).write_text("input,output,\na.png,,\n" if name == "a.csv" else "")
    assert len([*items._listed(tmp_path / name)]) == (name == "a.csv")


def test_a_cutout_keeps_its_transparency(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=12)
    Image.fromarray(picture(0)).save("b.png")
    inputs = [str(source), "b.png"]
    assert batch(input=inputs, cutout=True, video_suffix=".webm", window=5, sink=None) == 0
    assert Image.open("out/b.png").mode == "RGBA"
    with VideoSource("out/a.webm") as written:
        alphas = [frame.alpha for frame in written]
    assert len(alphas) == 12
    assert all(alpha is not None for alpha in alphas)


def test_inputs_are_named_in_several_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "a.jpg",
        "a.png",
        "deep/er/b.MOV",
        "c.avi",
        "deep/d2.tif",
        "deep/d10.tif",
        ".e.png",
    ):
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Path("in", name).touch()
    Path("in/labels.xml").touch()
    looks = []
    plain = streams.for_suffix
    monkeypatch.setattr(streams, "for_suffix", lambda *asked: looks.append(asked) or plain(*asked))

    def found(inputs: object, **more: str) -> dict[str, str]:
        return {one.input: one.name for one in find(inputs, Naming(Path("out"), **more)).items}

    assert found("in") == {
        "in/a.jpg": "a.jpg.png",
        "in/a.png": "a.png.png",
        "in/c.avi": "c.mp4",
        "in/deep/d2.tif": "deep/d2.png",
        "in/deep/d10.tif": "deep/d10.png",
        "in/deep/er/b.MOV": "deep/er/b.mov",
    }
    sources = [suffix for kind, suffix in looks if kind == "source"]
    assert sorted(sources) == [".MOV", ".avi", ".jpg", ".png", ".tif"]  # not for each file
    assert find("in", Naming(Path("out"))).passed_over == ("in/labels.xml",)
    assert found("in/**/*.tif", pictures=".jpg") == {
        "in/deep/d2.tif": "deep/d2.jpg",
        "in/deep/d10.tif": "deep/d10.jpg",
    }
    assert found(["in/a.jpg", "in/c.avi"], videos=".mkv") == {
        "in/a.jpg": "a.png",
        "in/c.avi": "c.mkv",
    }
    Path("in/list.txt").write_text("# a comment\na.jpg\n\ndeep/er/b.MOV\n")
    Path("in/list.csv").write_text("input,output\na.jpg,x/y.png\nc.avi,\n")
    Path("in/list.jsonl").write_text(
        '{"input": "a.jpg", "output": "z.png"}\n{"input": "gone.jpg"}\n'
    )
    assert [*found("in/list.txt").values()] == ["a.png", "deep/er/b.mov"]
    assert [*found("in/list.csv").values()] == ["x/y.png", "c.mp4"]
    assert [*found("in/list.jsonl").values()] == ["z.png", "gone.png"]
    Path("in/list.csv").write_text("input,output\na.jpg,../y.png\n")
    with pytest.raises(ConfigError, match=r"must be a file's name below 'out'"):
        found("in/list.csv")
    Path("in/list.csv").write_text("a.jpg\nb.jpg\n")
    with pytest.raises(ConfigError, match=r"is no manifest \(no column 'input'"):
        found("in/list.csv")
    with pytest.raises(SourceError, match=r"no file is like 'in/\*.bmp'"):
        found("in/*.bmp")
    with pytest.raises(SourceError, match=r"no file 'in/a.jpeg'; did you mean 'a.jpg'"):
        found("in/a.jpeg")
    Path("in/list.csv").write_text("input,output\na.jpg,x.png\nc.avi,./x.png\n")
    with pytest.raises(ConfigError, match=r"would both become 'out/x.png'"):
        found("in/list.csv")
    Path("in/list.jsonl").write_text('{"input": "a.jpg", "output": 7}\n')
    with pytest.raises(ConfigError, match=r"is no manifest .*names no output"):
        found("in/list.jsonl")
    with pytest.raises(ConfigError, match=r"'rtsp://host/' names no file"):
        found("rtsp://me:secret@host/")


@pytest.mark.timeout(30)
def test_a_glob_follows_no_link_that_leads_back() -> None:
    for name in ("in/a.mp4", "in/b/c.mp4", "in/.hidden/d.mp4", "in/b/.e.mp4"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    for link in ("in/b/up", "in/b/again", "in/round"):
        Path(link).symlink_to(Path("in").resolve())
    for pattern in ("in/**/*.mp4", "in/**"):
        items = find(pattern, Naming(Path("out"))).items
        assert [item.input for item in items] == ["in/a.mp4", "in/b/c.mp4"]
    assert [item.input for item in find("in/.*/*.mp4", Naming(Path("out"))).items] == [
        "in/.hidden/d.mp4"
    ]
    with pytest.raises(SourceError, match="is no pattern"):
        find("in/**b/*.mp4", Naming(Path("out")))


def test_a_glob_passes_over_what_the_batch_itself_wrote() -> None:
    for name in ("a.mp4", "b/c.mp4", "out/a.mp4", "out.batch/parts/b/c.mp4/0-240.mp4"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    items = find("**/*.mp4", Naming(Path("out"))).items
    assert [item.input for item in items] == ["a.mp4", "b/c.mp4"]
    items = find("out/*.mp4", Naming(Path("out"))).items  # which is then refused
    assert [item.input for item in items] == ["out/a.mp4"]


def test_no_input_is_written_over_by_the_output_of_another() -> None:
    pictures(Path("in"), 2)
    Path("in/list.csv").write_text("input,output\np0.png,new.png\np1.png,p0.png\n")
    with pytest.raises(ConfigError, match=r"'in/p0.png' would be written over by that of 'in/p1"):
        batch(input="in/list.csv", output="in", overwrite=True)


def test_an_address_that_nothing_writes_to_is_no_folder() -> None:
    pictures(Path("in"), 1)
    before = {*Path().iterdir()}
    with pytest.raises(CbsError, match="begins as an address does"):
        batch(input="in", output="ftp://a/b")
    assert {*Path().iterdir()} == before


def test_the_folder_that_one_is_in_may_be_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(Path("in"), 1)
    Path("here").mkdir()
    monkeypatch.chdir("here")
    assert batch(input="../in", output=".") == 0
    assert Path("p0.png").is_file()
    assert Path("../here.report.json").is_file()
    assert kept("../here.batch") == ["journal.jsonl"]
    with pytest.raises(ConfigError, match="is no place for a batch"):
        batch(input="../in", output="/")


def test_a_picture_that_was_written_before_its_worker_died_is_written_over() -> None:
    item = Item("a.png", "a.png", Path("out/a.png"), still=True)
    journal = Journal(Path("out"), {})
    engine = _Scripted(
        lambda task: Outcome(task, lost=True),
        lambda task: Outcome(task, ["no memory"]),
        lambda task: Outcome(task, [Done(1)]),
    )
    parts = iter([units.Pictures([item], journal, 1, tries=3)])
    watcher = Shown(PlainConsole(quiet=True), 1, 1)
    Coordinator(engine, parts, tries=3, watcher=watcher).run()
    assert [task.what.items[0].over for task in engine.tasks] == [False, True, True]
    assert [entry.error for entry in watcher.tally.entries] == [None]
    journal.close(complete=True)


@pytest.mark.parametrize(("place", "tried"), [("", 1), ("https://host/", 3)])
def test_a_damaged_input_is_tried_once_and_what_may_have_been_lost_on_its_way_again(
    place: str, tried: int
) -> None:
    journal = Journal(Path("out"), {})
    film = Item("a.mp4", f"{place}a.mp4", Path("out/a.mp4"))
    photo = Item("a.png", f"{place}a.png", Path("out/a.png"), still=True)
    cut = SourceError("'a' is cut short")
    for item, unit, outcome in (
        (film, units.Film(film, journal, 8), lambda task: Outcome(task, error=cut)),
        (
            photo,
            units.Pictures([photo], journal, 1, tries=3),
            lambda task: Outcome(task, [tasks.reason(cut, photo)]),
        ),
    ):
        engine = _Scripted(*[outcome] * 3)
        watcher = Shown(PlainConsole(quiet=True), 1, 0)
        Coordinator(engine, iter([unit]), tries=3, watcher=watcher).run()
        assert len(engine.tasks) == tried
        assert [(one.item, one.error) for one in watcher.tally.failed] == [(item, str(cut))]
    journal.close(complete=True)


def test_a_video_without_a_frame_is_named() -> None:
    item = Item("a.mp4", "a.mp4", Path("out/a.mp4"))
    journal = Journal(Path("out"), {})
    engine = _Scripted(
        lambda task: Outcome(task, Surveyed("key")),
        lambda task: Outcome(task, Made(0, found=False)),
    )
    watcher = Shown(PlainConsole(quiet=True), 1, 0)
    Coordinator(engine, iter([units.Film(item, journal, 8)]), tries=3, watcher=watcher).run()
    assert [entry.error for entry in watcher.tally.failed] == [
        "frames 0-: the input holds no frame: choose another"
    ]
    journal.close(complete=True)


@pytest.mark.parametrize("text", ['{"a": 1}\n{"b": 2}', "[]\n[1", "mine"])
def test_a_journal_of_somebody_elses_loses_no_byte(text: str) -> None:
    Path("out.batch").mkdir()
    Path("out.batch/journal.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=r"out\.batch"):
        Journal(Path("out"), {})
    assert Path("out.batch/journal.jsonl").read_text() == text


def test_a_journal_shows_no_password_and_is_known_again() -> None:
    item = Item("a.mp4", "https://me:secret@host/a.mp4", Path("out/a.mp4"))
    Path("out").mkdir()
    Path("out/a.mp4").touch()
    journal = Journal(Path("out"), {})
    journal.begin([item])
    journal.end([units.noted(units.Entry(item, output="out/a.mp4"))])
    journal.close(complete=False)
    assert "secret" not in Path("out.batch/journal.jsonl").read_text()
    journal = Journal(Path("out"), {})
    assert journal.has(item)
    journal.close(complete=True)
    assert not Path("out.batch").exists()


class _Scripted:
    """An engine whose tasks end as they are told to, one after another."""

    workers = 1

    def __init__(self, *ends) -> None:
        self._ends = iter(ends)
        self.tasks: list[Task] = []

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def wait(self) -> Outcome:
        return next(self._ends)(self.tasks[-1])


def test_a_cut_falls_on_a_frame_that_is_decoded_by_itself() -> None:
    index = Index(tuple(map(Fraction, range(100))), frozenset({0, 22, 39, 77}))
    spans = cut(index, 20, 0)
    assert [span.first for span in spans] == [0, 22, 42, 62, 82]
    assert [span.frames for span in spans] == [22, 20, 20, 20, 18]
    assert [span.seek for span in spans] == [None, 22, 41, 61, 81]
    assert [span.end for span in spans] == [22, 42, 62, 82, None]
    assert [span.seek for span in cut(index, 20, 30)][1:] == [0, 12, 32, 52]


def test_the_source_lists_its_frames(tmp_path: Path) -> None:
    ticks = [i * 40 + (i % 3) * 7 for i in range(50)]
    base = Fraction(1, 1000)
    path = make_clip(tmp_path / "a.mkv", frames=50, ticks=ticks, time_base=base, gop=10)
    for span in ({}, {"start": 0.5}, {"start": "10f", "end": 1.5}):
        with VideoSource(str(path), **span) as source:
            index = source.index()
            due = [frame.pts for frame in source]
        assert index is not None
        assert list(index.times) == due
    with VideoSource(str(path)) as source:
        index = source.index()
    assert index is not None
    assert index.keys == {0, 10, 20, 30, 40}


def test_seeking_that_finds_other_frames_is_given_up(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = frames(in_one_piece(clip, "whole.mp4"))
    seek = VideoSource.seek

    def wrong(self, place):
        return seek(self, place if place.seconds < 7 else type(place)("", seconds=Fraction(11)))

    monkeypatch.setattr(VideoSource, "seek", wrong)
    assert batch(input=str(clip), window=100) == 0
    assert same(frames(Path("out/clip.mp4")), due)
    (note,) = told()[str(clip)]["notes"]
    assert "done in one piece" in note


def test_parts_that_do_not_follow_each_other_are_found() -> None:
    one = Part(Path("a"), "a", (Fraction(0), Fraction(1)), None, last="x")
    assert fit([one, Part(Path("b"), "b", (Fraction(2),), None, last="y", before="x")])
    assert not fit([one, Part(Path("b"), "b", (Fraction(2),), None, last="y", before="z")])
    assert not fit([one, Part(Path("b"), "b", (Fraction(1),), None, last="y")])


def test_a_worker_that_dies_costs_its_window(clip: Path) -> None:
    Flaky.lose = Counter({"clip.mp4 96-": 2, "joined": 1})
    assert batch(input=str(clip), window=96) == 0
    assert Counter(Flaky.seen)["clip.mp4 96-192"] == 3
    assert Counter(Flaky.seen)["clip.mp4 0-96"] == 1
    assert len(frames(Path("out/clip.mp4"))) == 300


def test_a_poisoned_window_is_named_and_the_rest_goes_on(clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, "other.mp4")
    Flaky.lose = Counter({"clip.mp4 96-": 3})
    assert batch(input=[str(clip), "other.mp4"], window=96) == 2
    assert not Path("out/clip.mp4").exists()
    assert len(frames(Path("out/other.mp4"))) == 300
    assert str(told()[str(clip)]["error"]).startswith("frames 96-192: its worker died each time")
    Flaky.seen.clear()
    assert batch(input=[str(clip), "other.mp4"], window=96) == 0
    windows = [name for name in Flaky.seen if "mp4 " in name]
    assert windows == ["clip.mp4 as it is", "clip.mp4 96-192", "clip.mp4 joined"]
    assert {one["status"] for one in told().values()} == {"done", "done before"}
    assert kept("out.batch") == ["journal.jsonl"]


def test_an_ended_batch_goes_on_with_what_is_missing(clip: Path) -> None:
    pictures(Path("in"), 10)
    shutil.copy(clip, "in/z.mp4")
    Flaky.interrupt = "z.mp4 192-300"
    assert batch(input="in", pictures=4, window=96) == 130
    assert not Path("out/z.mp4").exists()
    assert len(list(Path("out").glob("*.png"))) == 10
    before = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    with pytest.raises(ConfigError, match=r"tells of another batch.*matte was argmax, and is soft"):
        batch(input="in", matte="soft")
    Flaky.interrupt = None
    Flaky.seen.clear()
    assert batch(input="in", pictures=4, window=96) == 0
    assert Flaky.seen == ["hello", "z.mp4 as it is", "z.mp4 192-300", "z.mp4 joined"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(frames(Path("out/z.mp4"))) == 300
    assert kept("out.batch") == ["journal.jsonl"]


def changed(journal: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes what a journal tells."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        change(line)
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_what_an_older_version_made_is_gone_on_with() -> None:
    def older(line: dict[str, Any]) -> None:
        if "identity" in line:  # before there were these keys
            config = line["identity"]["config"]
            del config["confidence"], config["styler"]["where"]
        if "facts" in line:
            line["facts"]["versions"]["torch"] = "1.0"

    pictures(Path("in"), 2)
    more = {**said()["styler"], "where": "frame"}
    assert batch(input="in", styler=more) == 0
    journal = Path("out.batch/journal.jsonl")
    changed(journal, older)
    with pytest.raises(ConfigError, match=r"holds what another batch made.*confidence was None"):
        batch(input="in", styler=more, confidence=0.7)
    Image.fromarray(picture(7, 32, 24)).save("in/new.png")
    Flaky.seen.clear()
    assert batch(input="in", styler=more) == 0
    assert Flaky.seen == ["hello", "new.png"]


def test_other_versions_are_told_and_mixed_in_no_video(capsys: pytest.CaptureFixture[str]) -> None:
    def older(line: dict[str, Any]) -> None:
        if "facts" in line:
            line["facts"]["versions"]["torch"] = "1.0"

    journal = Path("out.batch/journal.jsonl")
    pictures(Path("in"), 2)
    Flaky.interrupt = "p1.png"
    assert batch(input="in", pictures=1) == 130
    changed(journal, older)
    with pytest.raises(ConfigError, match=r"another version began \(versions.torch was 1.0"):
        batch(input="in", pictures=1)
    shutil.rmtree("out.batch")
    shutil.rmtree("out")
    Flaky.interrupt = None
    assert batch(input="in") == 0
    changed(journal, older)
    Image.fromarray(picture(7, 32, 24)).save("in/new.png")
    capsys.readouterr()
    for made in ("new.png", "newer.png"):
        Image.fromarray(picture(7, 32, 24)).save(f"in/{made}")
        assert batch(input="in", quiet=False) == 0
        line = "made by another version (versions.torch was 1.0"
        assert (line in " ".join(capsys.readouterr().out.split())) == (made == "new.png")


def test_what_was_there_when_the_driver_died_stays() -> None:
    """Nothing half has an output's name; what is there may be somebody's, or changed by them."""
    pictures(Path("in"), 4)
    journal = Journal(Path("out"), {"config": {}})
    journal.begin([Item("p0.png", "in/p0.png", Path("out/p0.png"))])
    identity = json.loads(Path("out.batch/journal.jsonl").read_text().splitlines()[0])["identity"]
    assert identity == {"config": {}}
    journal.close(complete=False)
    Path("out").mkdir()
    Path("out/p0.png").write_text("whole, but nobody noted it")
    with pytest.raises(ConfigError, match="another batch"):
        batch(input="in")
    Path("out.batch/journal.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"'out/p0.png' is there already"):
        batch(input="in")
    Flaky.interrupt = "p0.png and 3 more"
    Path("out/p0.png").unlink()
    assert batch(input="in") == 130
    Path("out/p0.png").write_text("whole, but nobody noted it")
    with Path("out.batch/journal.jsonl").open("a") as journal_file:
        journal_file.write('{"done": [{"name": "p1.p')  # torn by a crash
    Flaky.interrupt = None
    assert batch(input="in") == 0
    assert Path("out/p0.png").read_text() == "whole, but nobody noted it"
    assert Image.open("out/p1.png").size == (32, 24)
    lines = {one["output"]: one["status"] for one in told().values()}
    assert lines["out/p0.png"] == "done before"
    assert lines["out/p1.png"] == "done"


def test_what_was_begun_over_another_file_or_of_another_input_is_done_again() -> None:
    pictures(Path("in"), 2)
    Path("out").mkdir()
    Path("out/p0.png").write_text("old, and to be replaced")
    Flaky.interrupt = "p0.png and 1 more"
    assert batch(input="in", overwrite=True) == 130
    Path("out/p1.png").write_text("of the input as it was")
    Image.fromarray(picture(7, 32, 24)).save("in/p1.png")
    Flaky.interrupt = None
    assert batch(input="in") == 0
    for name in ("p0.png", "p1.png"):
        assert Image.open(f"out/{name}").size == (32, 24)


def test_poisoned_inputs_cost_themselves_alone(tmp_path: Path) -> None:
    pictures(Path("in"), 40)
    short = make_clip(tmp_path / "whole.mp4", frames=30)
    for number in range(4):
        make_clip(Path(f"in/good{number}.mp4"), frames=6, sound=0.2)
    cut_short(short, 0.6, Path("in/cut.mp4"))
    cut_short(make_clip(tmp_path / "whole.mkv", frames=30), 0.6, Path("in/cut.mkv"))
    Path("in/text.mp4").write_text("no video")
    Path("in/text.jpg").write_text("no picture")
    Path("in/empty.png").write_bytes(b"")
    Path("in/nothing.mp4").write_bytes(b"")
    assert batch(input="in") == 2
    lines = told()
    assert len(lines) == 50
    failed = {name for name, line in lines.items() if line["status"] == "failed"}
    bad = ("cut.mp4", "cut.mkv", "text.mp4", "text.jpg", "empty.png", "nothing.mp4")
    assert failed == {f"in/{name}" for name in bad}
    assert all(line.get("error") for name, line in lines.items() if name in failed)
    assert len(list(Path("out").iterdir())) == 44
    assert "is empty: get the file again" in str(lines["in/empty.png"]["error"])
    assert not list(Path("out").glob(".*"))


def test_what_is_there_is_refused(clip: Path) -> None:
    pictures(Path("in"), 3)
    Path("out").mkdir()
    Path("out/p1.png").write_text("mine")
    with pytest.raises(ConfigError, match=r"'out/p1.png' is there already"):
        batch(input="in")
    assert Path("out/p1.png").read_text() == "mine"
    assert [path.name for path in Path("out").iterdir()] == ["p1.png"]
    assert not Path("out.batch").exists()
    assert batch(input="in", overwrite=True) == 0
    assert Image.open("out/p1.png").size == (32, 24)
    with pytest.raises(ConfigError, match="would be written over by its output"):
        batch(input="in", output="in", overwrite=True)
    Path("out2.report.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"where the report goes"):
        batch(input="in", output="out2")


def test_two_batches_at_once_are_refused() -> None:
    pictures(Path("in"), 1)
    journal = Journal(Path("out"), {})
    with pytest.raises(ConfigError, match="another batch is writing 'out'"):
        batch(input="in")
    journal.close(complete=False)
    assert batch(input="in") == 0


def test_a_folder_of_somebody_elses_stays() -> None:
    pictures(Path("in"), 1)
    Path("out.batch").mkdir()
    Path("out.batch/mine").write_text("mine")
    with pytest.raises(ConfigError, match="holds other things"):
        batch(input="in")
    assert Path("out.batch/mine").read_text() == "mine"


def test_the_driver_does_without_torch() -> None:
    code = "import sys; from cbs_core.batch import session; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_wrong_configuration_is_told_once(clip: Path) -> None:
    with pytest.raises(CbsError, match="zebra"):
        batch(input=str(clip), routes=["zebra"])
    assert Flaky.seen == ["hello"]
    assert not Path("out.batch").exists()
    with pytest.raises(ConfigError, match="tries=0 is no whole number of 1 or more"):
        batch(input=str(clip), tries=0)
    with pytest.raises(CbsError, match=r"sink=video does not write"):
        batch(input=str(clip), video_suffix=".avi")


def test_a_changed_input_is_done_again() -> None:
    pictures(Path("in"), 3)
    Path("in/bad.png").write_text("no picture")
    assert batch(input="in") == 2
    Image.fromarray(picture(9, 40, 30)).save("in/p1.png")
    Image.fromarray(picture(9, 40, 30)).save("in/bad.png")
    Flaky.seen.clear()
    assert batch(input="in") == 0
    assert Image.open("out/p1.png").size == (40, 30)
    assert [line["status"] for line in told().values()].count("done before") == 2


def test_what_is_new_in_a_folder_is_done_alone() -> None:
    pictures(Path("in"), 3)
    assert batch(input="in") == 0
    before = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    Image.fromarray(picture(7, 32, 24)).save("in/new.png")
    Flaky.seen.clear()
    assert batch(input="in") == 0
    assert Flaky.seen == ["hello", "new.png"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [line["status"] for line in told().values()].count("done before") == 3
    Flaky.seen.clear()
    assert batch(input="in") == 0
    assert not Flaky.seen  # all is done
    with pytest.raises(ConfigError, match=r"holds what another batch made.*soft.*overwrite=true"):
        batch(input="in", matte="soft")
    Image.fromarray(picture(9, 40, 30)).save("in/p1.png")
    with pytest.raises(ConfigError, match=r"'out/p1.png' is there already"):
        batch(input="in")  # it may be the user's own by now
    assert batch(input="in", matte="soft", overwrite=True) == 0
    assert Flaky.seen == ["hello", "new.png and 3 more"]
    shutil.rmtree("out")
    Path("out.report.json").unlink()
    assert batch(input="in") == 0  # what is gone binds nobody


def test_a_picture_that_kills_its_worker_is_tried_three_times_in_all() -> None:
    items = [Item(f"{one}.png", f"{one}.png", Path(f"out/{one}.png"), still=True) for one in "ab"]
    journal = Journal(Path("out"), {})
    tried = Counter[str]()

    class Deadly:
        workers = 1

        def submit(self, task: Task) -> None:
            self.task = task

        def wait(self) -> Outcome:
            there = [item.name for item in self.task.what.items]
            tried.update(there)
            if "a.png" in there:
                return Outcome(self.task, lost=True)
            return Outcome(self.task, [Done(1)])

    parts = iter([units.Pictures(items, journal, 1, tries=3)])
    watcher = Shown(PlainConsole(quiet=True), 2, 2)
    Coordinator(Deadly(), parts, tries=3, watcher=watcher).run()
    assert tried == {"a.png": 3, "b.png": 2}
    assert {entry.item.name: entry.error is None for entry in watcher.tally.entries} == {
        "a.png": False,
        "b.png": True,
    }
    journal.close(complete=True)


def test_a_short_video_is_cut_for_all_workers(clip: Path, monkeypatch) -> None:
    class Crowd(Flaky):
        def __init__(self, start: Any, workers: int) -> None:
            super().__init__(start)
            self.workers = workers

    jobs.registered(monkeypatch, segmenter={"bright": Bright}, engine={"crowd": Crowd})
    Flaky.interrupt = "film.mp4 144-300"
    crowd = {"name": "crowd", "workers": 2}
    assert batch(input=str(clip), output="film.mp4", engine=crowd) == 130
    assert Flaky.seen == ["hello", "film.mp4 as it is", "film.mp4 0-144", "film.mp4 144-300"]


def test_one_input_may_have_a_file_as_its_output(clip: Path) -> None:
    assert batch(input=str(clip), output="film.mkv") == 0
    assert times(Path("film.mkv")) == times(clip)
    assert Path("film.report.json").is_file()


def test_a_sink_without_segments_is_used_as_always(clip: Path, monkeypatch) -> None:
    short = make_clip(Path("short.mp4"), frames=5)
    monkeypatch.setattr(restyling, "_joins", lambda sink: False)
    assert batch(input=str(short)) == 0
    assert len(frames(Path("out/short.mp4"))) == 5
    assert "short.mp4" in Flaky.seen
