"""The report's values, its files, and what happens where they cannot be written."""

import json
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import pytest
import sheets
import torch
from PIL import Image
from rich.console import Console

from cbs_core.contract.errors import LostError, SinkError
from cbs_core.contract.types import StreamInfo, WeightsFile
from cbs_core.machine.device import Device
from cbs_core.machine.files import is_marked
from cbs_core.machine.meter import Meter, Overlap
from cbs_core.run import report
from cbs_core.temporal.state import State
from cbs_core.testing import raw_frame


@pytest.fixture
def told():
    meter = Meter()
    meter.frames_in, meter.dropped = 5, 2
    for name in ("decode", "segment"):
        with meter.stage(name):
            pass
    for _ in range(3):
        meter.frame_out()
    return report.Report(
        plan=sheets.build(weights=(WeightsFile(Path("nets/a.pth"), "ab" * 32),)),
        state=State(),
        device=Device(torch.device("cuda", 1), "a GPU"),
        dtype=torch.float16,
        meter=meter,
        info=StreamInfo(64, 48, Fraction(25)),
        presence={("car", "person"): 3, ("sky",): 2},
        plugins={"sink/null": "y 2.0"},
        output=Path("out/é.mp4"),
        config={"precision": "auto", "routes": ["car"], "output": None},
        choice="pipeline (38.1 ms a frame, serial 61.0 ms)",
        damaged=1,
        kept=3,
        interrupted=True,
        notes=("the sound [b] was left out",),
    )


@pytest.fixture
def facts(told):
    return told.as_dict()


def test_values(facts):
    assert facts["frames"].items() >= {"in": 5, "out": 3, "dropped": 2, "damaged": 1}.items()
    assert facts["size"] == {"width": 64, "height": 48}
    assert facts["output"] == str(Path("out/é.mp4"))
    assert facts["interrupted"] is True
    assert datetime.fromisoformat(facts["date"]).tzinfo is not None
    assert facts["input"] == {"path": "", "sha256": None}
    assert facts["device"] == {"type": "cuda:1", "name": "a GPU"}
    assert facts["dtype"] == "fp16"
    (weights,) = facts["weights"]
    file = str(Path("nets/a.pth"))
    assert weights == {"file": file, "from": "path", "sha256": "ab" * 32, "licence": None}
    assert list(facts["plugins"]) == ["sink/null", "styler/johnson"]
    assert facts["stages_ms"].keys() == {"decode", "segment"}
    assert facts["stages_ms"]["decode"].keys() == {"p50", "p95", "max"}
    assert {"python", "torch", "class-based-styling"} <= facts["versions"].keys()
    assert facts["fps"] > 0
    assert facts["overlap"].keys() == {"saved", "sequence_ms", "wall_ms"}
    assert facts["scheduler"] == "pipeline (38.1 ms a frame, serial 61.0 ms)"
    assert [route["frames_present"] for route in facts["routes"]] == [3, 2, 0]
    assert facts["routes"][1] == {
        "classes": ["sky"],
        "word": None,
        "style": "johnson(style=wave)",
        "name": "wave",
        "strength": 0.6,
        "keep_color": False,
        "frames_present": 2,
    }


def test_watch_counts_in_how_many_frames_each_route_showed():
    watch = report.Watch(made := sheets.sheet((8, 8), rows=0))
    for index in range(3):
        sheets.show(watch, raw_frame(64, 64, index))
    assert watch.presence == {("car", "person"): 3, ("sky",): 3, ("train",): 0}
    assert watch.sheet is made


def places(folder, *keys):
    names = {"report": "r.json", "sheet": "s.png"}
    return {key: folder / names[key] for key in keys or names}


def test_files_hold_the_report_and_the_sheet(told, tmp_path):
    folder = tmp_path / "new"
    files = report.write(told, sheets.sheet((8, 8)), places(folder)).files
    assert files == (folder / "r.json", folder / "s.png")
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(told.as_dict()))
    assert Image.open(files[1]).format == "PNG"
    assert sorted(folder.iterdir()) == list(files)
    assert all(is_marked(file) for file in files)


def test_each_can_be_left_out(told, tmp_path):
    drawn = sheets.sheet((8, 8))
    assert report.write(told, drawn, {}).files == ()
    empty = sheets.sheet((8, 8), rows=0)
    assert report.write(told, empty, places(tmp_path, "sheet")).files == ()
    assert list(tmp_path.iterdir()) == []


def test_an_older_report_is_replaced_in_one_step(told, tmp_path, monkeypatch):
    (tmp_path / "r.json").write_text("old")

    def full(*args):
        assert (tmp_path / "r.json").read_text() == "old"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(SinkError, match=r"r\.json': No space left on device, but the output its"):
        report.write(told, sheets.sheet((8, 8)), places(tmp_path), over=True)
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]
    assert (tmp_path / "r.json").read_text() == "old"


def test_a_file_that_came_meanwhile_stays(told, tmp_path):
    (tmp_path / "r.json").write_text("theirs")
    files = report.write(told, sheets.sheet((8, 8)), places(tmp_path)).files
    assert [file.name for file in files] == ["r.2.json", "s.png"]
    assert (tmp_path / "r.json").read_text() == "theirs"


def test_a_folder_that_cannot_be_is_one_line(told, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="report=null sheet=null"):
        report.write(told, sheets.sheet((8, 8)), places(tmp_path / "file" / "x", "report"))


def printed(told, capsys):
    report.print_table(told, Console(highlight=False, soft_wrap=True))
    return capsys.readouterr().out


def test_the_table_is_for_people(told, capsys):
    told = replace(told, output=Path("out/[b].mp4"), files=(Path("out/report.json"),))
    text = printed(told, capsys)
    assert text.splitlines()[0].split() == ["stage", "p50", "ms", "p95", "ms", "max", "ms"]
    assert "3 frames" in text
    assert "2 dropped · 1 damaged" in text
    assert "no train was found in any frame" in text
    assert "the sound [b] was left out" in text
    assert "sky" not in text
    assert "scheduler: pipeline (38.1 ms a frame, serial 61.0 ms)" in text
    assert "overlap" not in text
    assert text.splitlines()[-2:] == [str(Path("out/[b].mp4")), str(Path("out/report.json"))]


@pytest.mark.parametrize(("sequence", "shown"), [(61.04, True), (38.1, False)])
def test_the_overlap_is_shown_where_there_is_some(told, capsys, monkeypatch, sequence, shown):
    monkeypatch.setattr(Meter, "overlap", Overlap(sequence, 38.0))
    line = "overlap: 38% (stages 61.0 ms a frame in sequence, 38.0 ms wall)"
    assert (line in printed(told, capsys)) is shown


def test_an_early_end_is_raised_with_what_there_is(told):
    told.check()
    with pytest.raises(LostError, match=r"^gone; .*é\.mp4 is closed, with 3 frames$"):
        replace(told, cut=LostError("gone")).check()
