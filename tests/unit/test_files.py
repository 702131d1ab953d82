"""Files under their own name are whole, and nothing that somebody put there is written to."""

import os
import secrets
import threading

import pytest

from cbs_core.contract.errors import SinkError
from cbs_core.machine.files import PREFIX, rename, replace, temporary


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
        link = tmp_path / f"{PREFIX}foretold.bin"
        link.symlink_to(target)
        with pytest.raises(SinkError, match="File exists"):
            replace(tmp_path / "a.bin", lambda file: file.write(b"theirs"))
        assert link.is_symlink()
        link.unlink()
    assert victim.read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()


def test_temporary_names_are_not_foretold(tmp_path):
    names = {temporary(tmp_path / "a.mp4").name for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith(PREFIX) and name.endswith(".mp4") for name in names)
    assert all(len(name) >= len(PREFIX) + 16 for name in names)


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
    rename(temporary(tmp_path / "a"), tmp_path / "a")
    assert order == ["fsync", "replace"]
    folder = temporary(tmp_path / "out", folder=True)
    rename(folder, tmp_path / "out")
    assert (tmp_path / "out").is_dir()


def test_a_file_where_a_folder_is_due_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match=r"file' is a file, not a folder; choose another place"):
        temporary(tmp_path / "file" / "deeper" / "out.png")
