"""A folder that tells how far an output is belongs to one process at a time."""

import os
from pathlib import Path

import pytest

from cbs_core.contract.errors import ConfigError
from cbs_core.machine import held
from cbs_core.machine.held import HeldFolder


def take(folder: Path) -> HeldFolder:
    return HeldFolder(folder, "index", output=Path("a.mp4"), who="run", keeps="it keeps parts")


def test_one_has_it_and_the_next_when_it_is_given_back(tmp_path: Path) -> None:
    first = take(tmp_path / "parts")
    with pytest.raises(ConfigError, match=r"^another run is writing 'a.mp4': wait for it, or"):
        take(tmp_path / "parts")
    first.give_back()
    first.give_back()
    take(tmp_path / "parts").give_back()
    assert [*(tmp_path / "parts").iterdir()] == []


def test_a_lock_that_its_holder_has_just_removed_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process opens it, the first removes it, and a third makes another."""
    real, calls = held.lock, []

    def late(handle: int) -> bool:
        if not calls:
            (tmp_path / "parts" / held.LOCK).unlink()
        calls.append(os.fstat(handle).st_ino)
        return real(handle)

    monkeypatch.setattr(held, "lock", late)
    taken = take(tmp_path / "parts")
    assert len(calls) == 2
    with pytest.raises(ConfigError, match="another run"):
        take(tmp_path / "parts")
    taken.give_back()


def test_what_is_another_ones_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match=r"is where it keeps parts, and holds other things: move"):
        take(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["mine.txt"]
