"""Every signal that ends a run is heard, and one that is said twice by itself is meant once."""

import signal

import pytest

from cbs_core.machine import signals


def names() -> list[str]:
    return [one.name for one in signals.ENDING]


def test_those_of_this_system_are_known() -> None:
    known = {"SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU"}
    assert {name for name in known if hasattr(signal, name)} <= set(names())


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("other", names())
@pytest.mark.parametrize("seconds", [0.01, 5.0])
def test_the_first_ends_a_run_and_what_a_person_says_again_gives_it_up(
    name: str, other: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: clock[0])
    presses = signals.Presses()
    assert presses.counts(getattr(signal, name))
    clock[0] += seconds
    by_itself = other in ("SIGHUP", "SIGXCPU")
    echo = seconds < signals.ECHO and other != "SIGINT"
    assert presses.counts(getattr(signal, other)) == (not by_itself and not echo)
    clock[0] += 10
    counted = not by_itself and not echo
    assert presses.counts(signal.SIGINT) == (not counted)
    clock[0] += 10
    assert not presses.counts(signal.SIGINT)


@pytest.mark.parametrize("name", names())
def test_each_is_listened_to_unless_whoever_started_this_had_it_ignored(name: str) -> None:
    heard: list[int] = []
    number = getattr(signal, name)
    had = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        before = signals.listen(lambda got, _: heard.append(got))
        signal.raise_signal(number)
        signals.restore(before)
        assert heard == [number]
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)
        before = signals.listen(lambda got, _: heard.append(got))
        left_alone = signal.getsignal(number) is signal.SIG_IGN
        signals.restore(before)
        assert left_alone == (name in ("SIGHUP", "SIGQUIT"))
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, had)


def test_a_handler_that_is_none_of_pythons_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    really = signal.getsignal
    monkeypatch.setattr(
        signals.signal,
        "getsignal",
        lambda number: None if number == signal.SIGTERM else really(number),
    )
    signals.restore(signals.listen(print))
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_process_that_ends_hears_none() -> None:
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    try:
        signals.ignore()
        for number in signals.ENDING:
            signal.raise_signal(number)
    finally:
        signals.restore(before)
