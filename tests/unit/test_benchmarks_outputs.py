"""Benchmarks write over nothing that a user names."""

import importlib
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("name", "words", "file"),
    [
        ("gate", ("--out", "mine/gate.json"), "gate.json"),
        ("golden", ("record", "mine/golden.json"), "golden.json"),
        ("ratios", ("--out", "mine"), "ratios.png"),
        ("schedulers", ("--out", "mine"), "schedulers.json"),
        ("soak", ("--out", "mine"), "soak.json"),
        ("cluster", ("--output", "mine/cluster.json"), "cluster.png"),
        ("paper", ("--out", "mine"), "table.txt"),
        ("steady", (".", "--strips", "mine"), "clip.png"),
        ("streets", (".", "mine"), "photo.png"),
    ],
)
def test_no_benchmark_writes_over_a_file_of_its_users(
    name: str,
    words: tuple[str, ...],
    file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "mine" / file).write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *words])
    module = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as ended:
        module.main(*([words] if name == "streets" else []))
    told = f"{ended.value.code} {capsys.readouterr().err}"
    assert "is there already" in told
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [file]
    assert (tmp_path / "mine" / file).read_text() == "mine"
