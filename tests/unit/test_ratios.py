"""The tables, the chart and the marked block say what was measured."""

import json

import pytest

from benchmarks import machine, ratios

MS = {"median": 10.0, "lower": 9.0, "upper": 11.0}


@pytest.fixture
def results():
    def one(times):
        return {"ratio": times, "ms": MS, "noisy": times < 1, "psnr_db": None, "share": 0.1}

    row = {
        "name": "matte",
        "scene": {"height": 512, "width": 1024, "share": 0.1, "objects": 2},
        "width": 32,
        "reference": "reference flow",
        "must": 7,
        "aim": 12,
        "gflop": {"segment": 20.0, "style": 160.0},
        "rates_gflops": {"fp32": 90.0},
        "floor_ms": {"fp32": 2000.0},
        "reference_ms": MS,
        "measured": {"slow": one(0.5), "good": one(8.0), "best": one(13.0)},
        "not_offered": {"accelerator=warp": "no such | thing"},
    }
    facts = {"class": "cpu-2c-amx", "cpu": "A CPU", "cores": 2, "load": 0.1, "commit": "abc"}
    return {"machine": facts | {"changed": False, "versions": {"torch": "2"}}, "rows": [row]}


def test_the_table_is_sorted_and_judged(results):
    lines = ratios.table(results["rows"][0])
    settings = [line for line in lines if line.startswith("| `")]
    assert [line.split("`")[1] for line in settings] == ["best", "good", "slow", "accelerator=warp"]
    ends = ["aim |", "must |", "below, noisy |", "not offered here: no such / thing |"]
    assert all(line.endswith(end) for line, end in zip(settings, ends, strict=True))
    assert "at least 2000 ms in fp32" in lines[-1]


def test_the_chart_has_a_bar_a_setting(results):
    full = ratios.chart(results)
    results["rows"][0]["measured"].pop("slow")
    assert ratios.chart(results).height < full.height


def test_only_the_marked_block_is_written(results, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    (tmp_path / "cpu-2c-amx").mkdir()
    (tmp_path / "cpu-2c-amx" / "ratios.json").write_text(json.dumps(results))
    docs = tmp_path / "performance.md"
    docs.write_text(f"before\n{ratios.BEGIN}\nold\n{ratios.END}\nafter\n")
    ratios.fill(docs)
    once = docs.read_text()
    assert once.startswith("before\n")
    assert once.endswith(f"{ratios.END}\nafter\n")
    assert "| `best` |" in once
    assert "old" not in once
    ratios.fill(docs)
    assert docs.read_text() == once


def test_every_promised_accelerator_has_a_line():
    (matte,) = (row for row in ratios.ROWS if row.name == "matte")
    words = [" ".join(one) for _, one in ratios.settings(matte)]
    assert len(words) == len(set(words))
    for name in ratios.PROMISED:
        assert any(f"accelerator={name} " in one for one in words)
    plain = [one for one in words if one not in matte.more]
    assert len(plain) == len(words) - len(matte.more)
    assert sum("styler.where=mask" in one for one in plain) == len(plain) / 2


def test_a_trick_is_typed_beside_what_is_usual():
    (tricks,) = (row for row in ratios.ROWS if row.tricks)
    words = dict(ratios.settings(tricks))
    assert words["precision=fp32"] == ("accelerator=openvino", "precision=fp32")
    assert {*ratios.USUAL.split(), "styler.where=mask"} == set(words["styler.where=mask"])


def test_where_nothing_is_promised_nothing_is_judged(results):
    row = results["rows"][0] | {"must": 0, "aim": 0}
    lines = ratios.table(row)
    assert "must" not in "".join(lines)
    assert any(line.startswith("| `good`") and line.endswith("| equal |  |") for line in lines)
    assert any(line.startswith("| `slow`") and line.endswith("| noisy |") for line in lines)
