"""Head against base: a loss fails, and so does a side that measured nothing."""

from pathlib import Path

import pytest

from benchmarks.compare import faults, in_turns

BASE, HEAD = Path("base"), Path("head")


def test_turns_alternate_and_medians_are_taken():
    calls = []
    values = {BASE: [1.0, 9.0, 2.0], HEAD: [3.0, 1.0, 4.0]}

    def measure(tree):
        calls.append(tree.name)
        return {"eager": values[tree].pop(0)}

    assert in_turns(BASE, HEAD, measure, turns=3) == ({"eager": 2.0}, {"eager": 3.0})
    assert calls == ["base", "head", "head", "base", "base", "head"]


@pytest.mark.parametrize(
    ("base", "head", "words"),
    [
        ({"a": 2.0}, {"a": 1.71}, []),
        ({"a": 2.0}, {"a": 1.69, "new": 1.0}, ["a: 1.69x the reference, 16% below"]),
        ({"a": 2.0, "b": 1.0}, {"a": 2.0}, ["b: measured on the base, not on the head"]),
        ({}, {"a": 2.0}, ["no benchmark was executed on the base"]),
        ({"a": 2.0}, {}, ["no benchmark was executed on the head"]),
    ],
)
def test_faults(base, head, words):
    found = faults(base, head)
    assert len(found) == len(words)
    assert all(fault.startswith(word) for fault, word in zip(found, words, strict=True))


def test_a_turn_that_measured_nothing_is_no_median():
    results = iter([{"a": 1.0}, {"a": 1.0}, {}, {"a": 1.0}])
    base, head = in_turns(BASE, HEAD, lambda _: next(results), turns=2)
    assert (base, head) == ({"a": 1.0}, {})
