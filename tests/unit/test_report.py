"""The report's values, its files, and what happens where they cannot be written."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import sheets
import torch
from PIL import Image

from cbs_core.contract.errors import SinkError
from cbs_core.contract.types import StreamInfo, WeightsFile
from cbs_core.machine.device import Device
from cbs_core.machine.meter import Meter
from cbs_core.run import report
from cbs_core.testing import raw_frame


@pytest.fixture
def facts():
    built = replace(sheets.build(), weights=(WeightsFile(Path("nets/a.pth"), "ab" * 32),))
    meter = Meter()
    meter.frames_in, meter.dropped = 5, 2
    for name in ("decode", "segment"):
        with meter.stage(name):
            pass
    for _ in range(3):
        meter.frame_out()
    return report.compose(
        config={"precision": "auto", "routes": ["car"], "output": None},
        built=built,
        plugins={"styler/johnson": "x 1.0", "sink/null": "y 2.0"},
        device=Device(torch.device("cuda", 1), "a GPU"),
        dtype=torch.float16,
        meter=meter,
        choice="pipeline (38.1 ms a frame, serial 61.0 ms)",
        info=StreamInfo(64, 48, Fraction(25)),
        damaged=1,
        presence={"car+person": 3, "sky": 2, "train": 0},
        output=Path("out/é.mp4"),
        interrupted=True,
    )


def test_values(facts):
    assert facts["frames"].items() >= {"in": 5, "out": 3, "dropped": 2, "damaged": 1}.items()
    assert facts["size"] == {"width": 64, "height": 48}
    assert facts["output"] == str(Path("out/é.mp4"))
    assert facts["interrupted"] is True
    assert facts["device"] == {"type": "cuda:1", "name": "a GPU"}
    assert facts["dtype"] == "fp16"
    (weights,) = facts["weights"]
    assert weights == {"file": str(Path("nets/a.pth")), "sha256": "ab" * 32, "licence": None}
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
        "style": "johnson(style=wave)",
        "strength": 0.6,
        "keep_color": False,
        "frames_present": 2,
    }


def test_watch_counts_in_how_many_frames_each_route_showed():
    watch = report.Watch(sheets.build(), made := sheets.sheet((8, 8), rows=0))
    for index in range(3):
        sheets.show(watch, raw_frame(64, 64, index))
    assert watch.presence == {"car+person": 3, "sky": 3, "train": 0}
    assert watch.sheet is made


def test_files_hold_the_report_and_the_sheet(facts, tmp_path):
    folder = tmp_path / "new"
    files = report.write(facts, sheets.sheet((8, 8)), folder, report="r.json", sheet="s.png")
    assert files == [folder / "r.json", folder / "s.png"]
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(facts))
    assert Image.open(files[1]).format == "PNG"
    assert sorted(folder.iterdir()) == files


def test_each_can_be_left_out(facts, tmp_path):
    drawn = sheets.sheet((8, 8))
    assert report.write(facts, drawn, tmp_path, report=None, sheet=None) == []
    empty = sheets.sheet((8, 8), rows=0)
    assert report.write(facts, empty, tmp_path, report=None, sheet="s.png") == []
    assert list(tmp_path.iterdir()) == []


def test_an_older_report_is_replaced_in_one_step(facts, tmp_path, monkeypatch):
    (tmp_path / "r.json").write_text("old")

    def full(*args):
        assert (tmp_path / "r.json").read_text() == "old"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(
        SinkError, match=r"r\.json' \(No space left on device\), but the output its"
    ):
        report.write(facts, sheets.sheet((8, 8)), tmp_path, report="r.json", sheet="s.png")
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]
    assert (tmp_path / "r.json").read_text() == "old"


def test_a_folder_that_cannot_be_is_one_line(facts, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="report=null sheet=null"):
        report.write(
            facts, sheets.sheet((8, 8)), tmp_path / "file" / "x", report="r.json", sheet=None
        )


def test_the_table_is_for_people(facts, capsys):
    report.print_table(facts, Path("out/[b].mp4"), [Path("out/report.json")])
    text = capsys.readouterr().out
    assert text.splitlines()[0].split() == ["stage", "p50", "ms", "p95", "ms", "max", "ms"]
    assert "3 frames" in text
    assert "2 dropped · 1 damaged" in text
    assert "no train was found in any frame" in text
    assert "sky" not in text
    assert "scheduler: pipeline (38.1 ms a frame, serial 61.0 ms)" in text
    assert "overlap" not in text
    assert text.splitlines()[-2:] == [str(Path("out/[b].mp4")), str(Path("out/report.json"))]


@pytest.mark.parametrize(("saved", "shown"), [(0.377, True), (0.004, False)])
def test_the_overlap_is_shown_where_there_is_some(facts, capsys, saved, shown):
    facts["overlap"] = {"saved": saved, "sequence_ms": 61.04, "wall_ms": 38.0}
    report.print_table(facts, None, [])
    line = "overlap: 38% (stages 61.0 ms a frame in sequence, 38.0 ms wall)"
    assert (line in capsys.readouterr().out) is shown
