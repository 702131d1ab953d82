"""A configuration becomes types, and all that is wrong with it is told at once."""

import pytest

from cbs_core.choose.presets import defaults
from cbs_core.contract.errors import ConfigError
from cbs_core.run.settings import Look, look, parse
from cbs_core.temporal.wanted import Policy


def config(**changes):
    return {
        "segmenter": {"name": "smp"},
        "styler": {"name": "johnson", "where": "mask", "style": "wave"},
        "compositor": {"name": "hard"},
        "accelerator": {"name": "eager"},
        "source": {"name": "sample"},
        "sink": {"name": "image"},
        "scheduler": {"name": "serial"},
        "matte": "soft",
        "segment_every": 2,
        "segment_size": [64, 96],
        "select": "3,4",
        "device": "cpu",
        "precision": "fp32",
        "quiet": False,
        "report": "r.json",
        "sheet": None,
        "sheet_frames": "nonsense, but without a sheet nobody asks",
        "routes": ["cat"],
    } | changes


def test_what_is_said_becomes_types():
    settings = parse(config())
    found = settings.look
    assert isinstance(found, Look)
    assert (found.styler.name, dict(found.styler.params)) == ("johnson", {"style": "wave"})
    assert found.extent.masked
    assert found.extent.policy == Policy(on_cut=True)
    assert (found.matte, found.segment_every, found.segment_size) == ("soft", 2, (64, 96))
    assert (found.select, found.routes) == ((3, 4), ["cat"])
    assert (settings.device, settings.report, settings.sheet) == ("cpu", "r.json", None)
    assert parse(config(sink=None)).sink.name == "null"


def test_all_that_is_wrong_is_told_in_one_line():
    wrong = config(
        matte="sof", segment_every=0, select="x", quiet="yes", styler=None, report="a/b.json"
    )
    with pytest.raises(ConfigError) as error:
        parse(wrong)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("6 settings are wrong: (1) ")
    for part in (
        "styler: no plugin is chosen",
        "no matte 'sof'; did you mean 'soft'?",
        "segment_every=0 is no whole number",
        "select=x is none of all",
        "quiet=yes is neither true nor false",
        "report=a/b.json is no plain file name",
    ):
        assert part in text


def test_one_that_is_wrong_is_told_as_it_is():
    with pytest.raises(ConfigError, match=r"^segment_every=0 is no whole number of 1 or more$"):
        parse(config(segment_every=0))


def test_the_defaults_are_those_of_the_command_line():
    found = look(defaults())
    assert (found.segmenter.name, found.styler.name, found.compositor.name) == (
        "smp",
        "johnson",
        "hard",
    )
    assert (found.matte, found.segment_every, found.select) == ("argmax", 1, None)
