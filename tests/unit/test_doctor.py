"""What strangers add to `cbs-doctor`, and what it says of their mistakes."""

import re
from email import message_from_string
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from cbs_core.choose import surroundings
from cbs_core.choose.registry import checks
from cbs_core.cli import doctor
from cbs_core.contract.extensions import Finding


def registered(monkeypatch, check):
    monkeypatch.setitem(checks.__dict__, "_entries", {})
    monkeypatch.setattr(checks, "_registered", {"camera": check})
    return [*doctor._checks()]


def test_a_strangers_findings_are_shown_with_their_owner(monkeypatch):
    def check():
        yield ("ok", "camera", "one is\nthere")
        yield Finding("note", "tripod", "none")

    assert registered(monkeypatch, check) == [
        ("ok", "camera", "one is there (this process)"),
        ("note", "tripod", "none (this process)"),
    ]


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda: 1 / 0, "'camera' of this process failed .ZeroDivisionError"),
        (lambda: [("fine", "a", "b")], "is no finding"),
        (lambda: ["ok"], "is no finding"),
        (lambda: [3], "is no finding"),
        (lambda: None, "NoneType"),
    ],
)
def test_a_broken_check_is_a_problem_and_no_more(monkeypatch, check, words):
    (finding,) = registered(monkeypatch, check)
    assert finding.level == "PROBLEM"
    assert re.search(words, finding.text)


@pytest.mark.parametrize(
    ("group", "right"),
    [
        ("cbs.styler", "cbs.stylers"),
        ("cbs.segmenter", "cbs.segmenters"),
        ("cbs_stylers", "cbs.stylers"),
        ("cbs-sources", "cbs.sources"),
        ("CBS.Sinks", "cbs.sinks"),
        ("cbs.check", "cbs.checks"),
        ("cbs.flavours", ""),
        ("cbs", ""),
        ("class_based_styling.stylers", "cbs.stylers"),
        ("class-based-styling", ""),
        ("class_based_stylings.stylers", None),
        ("cbs.stylers", None),
        ("console_scripts", None),
        ("csbuilder", None),
    ],
)
def test_a_group_that_is_nearly_ours_is_told_with_the_right_name(monkeypatch, group, right):
    entry = EntryPoint("chalk", "cbs_chalk:Chalk", group)
    monkeypatch.setattr(surroundings, "installed", lambda: EntryPoints([entry]))
    assert [found for _, found in surroundings.stray_groups()] == ([] if right is None else [right])
    for finding in doctor._groups():
        assert finding.level == "PROBLEM"
        assert f"'{group}'" in finding.text
        assert f"'{right}'" in finding.text or "cbs.stylers" in finding.text


def test_extras_of_every_distribution_are_shown_with_its_command(monkeypatch):
    class Stranger:
        name = "cbs-chalk"
        metadata = message_from_string(
            "Provides-Extra: fast\nProvides-Extra: test\nProvides-Extra: whole\n"
        )
        requires = (
            "torch",
            "no-such-brush; extra == 'fast'",
            "no-such-test; extra == 'test'",
            "numpy; extra == 'whole'",
        )

    monkeypatch.setattr(doctor, "distributions", lambda: {"cbs-chalk": Stranger})
    assert [*doctor._extras()] == [
        ("note", "cbs-chalk[fast]", "no-such-brush not installed: pip install 'cbs-chalk[fast]'"),
        ("ok", "cbs-chalk[whole]", "installed"),
    ]


def test_the_projects_own_check_tells_of_encoders():
    subjects = {finding.subject for finding in doctor._checks()}
    assert {"PyAV", "encoder"} <= subjects


def test_the_projects_own_distribution_is_among_them():
    assert "class-based-styling" in surroundings.distributions()
