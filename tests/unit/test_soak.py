"""Of the long evening, what can be judged without one."""

import pytest

pytest.importorskip("selenium")

from benchmarks import soak


def row(**figures):
    usual = {"rss_mb": 700.0, "threads": 10, "files": 11, "browser_mb": 900.0, "fps": 3.0}
    return {**usual, "age_ms": 250.0, **figures}


def test_a_look_at_which_nothing_was_shown_counts_for_no_age():
    assert soak.summary([row(age_ms=None), row(), row(age_ms=400.0)])["age_ms"] == 325
    nothing = soak.summary([row(age_ms=None)])
    assert nothing["age_ms"] is None
    assert "| 1 | 700 | 10 | 11 | 900 | 3 | - |" in soak.table([nothing])


@pytest.mark.parametrize(
    ("late", "grown"),
    [
        ({}, []),
        ({"rss_mb": 740.0, "threads": 11, "files": 13, "age_ms": 500.0}, []),
        ({"rss_mb": 760.0}, ["rss_mb"]),
        ({"threads": 12, "files": 14}, ["threads", "files"]),
        ({"age_ms": 600.0}, ["age_ms"]),
        ({"age_ms": None}, ["age_ms"]),
    ],
)
def test_what_grew_is_named(late, grown):
    assert soak.grown(soak.summary([row()]), soak.summary([row(**late)])) == grown


def test_an_evening_too_short_for_quarters_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["soak", "--minutes", "0.1"])
    with pytest.raises(SystemExit):
        soak.main()
    assert "too short" in capsys.readouterr().err
