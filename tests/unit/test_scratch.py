"""Temporary folders: of what a killed process left nothing stays."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from cbs_core.machine.locks import HAS_LOCKS
from cbs_core.machine.scratch import OWNED, UNLOCKED_S, clear, own, scratch

pytestmark = pytest.mark.skipif(not HAS_LOCKS, reason="no locks of files here: needs fcntl")


def named(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    gone, lives, other = (tmp_path / f"cbs-some-{name}" for name in ("gone", "lives", "other"))
    for folder in (gone, lives, other):
        folder.mkdir()
        (folder / "session").write_text("")
    (gone / OWNED).write_text("")
    handle = own(lives)
    clear(tmp_path, "cbs-some-")
    assert named(tmp_path) == ["cbs-some-lives", "cbs-some-other"]
    os.close(handle)
    clear(tmp_path, "cbs-some-")
    assert named(tmp_path) == ["cbs-some-other"]


def test_one_without_a_lock_is_left_while_it_changes(tmp_path: Path) -> None:
    old, busy, new, link = (tmp_path / f"cbs-some-{name}" for name in ("old", "busy", "new", "to"))
    for folder in (old, busy, new):
        (folder / "logs").mkdir(parents=True)
        (folder / "logs" / "out").write_text("")
    target = tmp_path / "elsewhere"
    target.mkdir()
    link.symlink_to(target)
    (old / "latest").symlink_to(target)  # of a folder that is not ours nothing is looked at
    ago = time.time() - UNLOCKED_S - 60
    for path in (old, old / "logs", old / "logs" / "out", old / "latest", busy, busy / "logs"):
        os.utime(path, (ago, ago), follow_symlinks=False)
    (target / "kept").write_text("")
    clear(tmp_path, "cbs-some-")
    assert named(tmp_path) == ["cbs-some-busy", "cbs-some-new", "cbs-some-to", "elsewhere"]
    assert named(target) == ["kept"]


def test_a_folder_is_gone_when_it_is_left_and_clears_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "cbs-away-left"
    left.mkdir()
    (left / OWNED).write_text("")
    with scratch("cbs-away-") as folder:
        assert not left.exists()
        assert named(folder) == []
        with scratch("cbs-away-"):
            assert folder.is_dir()  # it is in use
        (folder / OWNED).write_text("a name as any")
    with pytest.raises(KeyError), scratch("cbs-away-"):
        raise KeyError
    assert named(tmp_path) == []
