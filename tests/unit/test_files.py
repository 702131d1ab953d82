"""Files under their own name are whole, and nothing that somebody put there is written to."""

import os
import re
import secrets
import threading
from pathlib import Path

import pytest

from cbs_core.contract.errors import SinkError
from cbs_core.machine import files
from cbs_core.machine.files import is_temporary, rename, replace
from cbs_core.machine.locks import lock


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.bin"
    replace(path, lambda file: file.write(b"first"))

    def fail(file):
        file.write(b"sec")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        SinkError, match=r"cannot write '.*a.bin' \(No space left on device\): make"
    ):
        replace(path, fail)
    with pytest.raises(KeyboardInterrupt):
        replace(path, lambda file: (_ for _ in ()).throw(KeyboardInterrupt))
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]
    assert path.read_bytes() == b"first"


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    monkeypatch.setattr(secrets, "token_hex", lambda count: "foretold")
    for target in (victim, tmp_path / "nowhere"):
        link = tmp_path / f".a.bin{files.TAG}foretold"
        link.symlink_to(target)
        with pytest.raises(SinkError, match="File exists"):
            replace(tmp_path / "a.bin", lambda file: file.write(b"theirs"))
        assert link.is_symlink()
        link.unlink()
    assert victim.read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()


def test_temporary_names_are_not_foretold_and_tell_what_they_are_of(tmp_path):
    names: list[str] = []
    for _ in range(20):
        replace(tmp_path / "a.mp4", lambda file: names.extend(os.listdir(tmp_path)))
    hidden = {name for name in names if name != "a.mp4"}
    assert len(hidden) == 20
    assert all(re.fullmatch(r"\.a\.mp4\.cbs-tmp-[0-9a-f]{16}", name) for name in hidden)
    long = tmp_path / ("é" * 125 + ".json")
    replace(long, lambda file: file.write(b"{}"))
    assert long.read_bytes() == b"{}"


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "_swept", set())
    left = tmp_path / ".b.json.cbs-tmp-0123456789abcdef"
    left.write_bytes(b"half")
    mine = tmp_path / ".b.json.cbs-tmp-mine"
    mine.write_bytes(b"whole")
    link = tmp_path / ".c.json.cbs-tmp-0123456789abcdef"
    link.symlink_to(mine)
    with (tmp_path / ".d.json.cbs-tmp-0123456789abcdef").open("wb") as other:
        assert lock(other.fileno())
        replace(tmp_path / "a.json", lambda file: file.write(b"{}"))
        assert not left.exists()
        assert Path(other.name).exists()
    assert mine.read_bytes() == b"whole"
    assert link.is_symlink()
    assert is_temporary(left.name)
    assert not is_temporary(mine.name)


def test_a_file_that_another_takes_for_left_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    really, taken = files.lock, []

    def after_another(handle):
        if not taken:
            (path,) = tmp_path.iterdir()
            taken.append(path.open("rb"))
            assert lock(taken[0].fileno())
        return really(handle)

    def write(file):
        with taken[0]:
            Path(taken[0].name).unlink()
        file.write(b"{}")

    monkeypatch.setattr(files, "lock", after_another)
    assert replace(tmp_path / "a.json", write).read_bytes() == b"{}"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_that_may_not_be_looked_into_is_written_to(tmp_path, monkeypatch):
    def refused(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refused)
    assert replace(tmp_path / "a.json", lambda file: file.write(b"{}")).read_bytes() == b"{}"


def test_two_writers_never_tear_a_file(tmp_path):
    path = tmp_path / "a.bin"
    contents = [bytes([value]) * 50_000 for value in (1, 2)]
    replace(path, lambda file: file.write(contents[0]))

    def write(content):
        for _ in range(40):
            replace(path, lambda file: [file.write(content[at : at + 500]) for at in range(100)])

    halves = [content[:500] * 100 for content in contents]
    threads = [threading.Thread(target=write, args=(half,)) for half in halves]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_bytes() in contents
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


def test_what_is_renamed_is_on_the_disk(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(os, "fsync", lambda handle: order.append("fsync"))
    really = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("replace"), really(*names)))
    replace(tmp_path / "a", lambda file: None)
    assert order == ["fsync", "replace"]
    (tmp_path / "folder").mkdir()
    rename(tmp_path / "folder", tmp_path / "out")
    assert (tmp_path / "out").is_dir()


def test_a_file_where_a_folder_is_due_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match=r"file' is a file, not a folder: make room there"):
        replace(tmp_path / "file" / "deeper" / "out.png", lambda file: None)
