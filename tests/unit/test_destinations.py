"""Where a run's files go, and that nothing of anybody's is written over."""

from pathlib import Path

import pytest

from cbs_core.contract.errors import CbsError
from cbs_core.machine.files import MARK, settle
from cbs_core.machine.unfinished import Unfinished
from cbs_core.run.destinations import Places, beside, check, fresh, writable

AUTO = {"report": "auto", "sheet": "auto"}


def of(output: Path, **wanted: str | None) -> Places:
    return Places(output, beside(output, wanted or AUTO))


def test_names_are_the_outputs(tmp_path: Path) -> None:
    assert [path.name for path in of(tmp_path / "out.mp4")] == [
        "out.mp4",
        "out.report.json",
        "out.sheet.png",
    ]
    assert beside(tmp_path / "v1.5", AUTO, whole=True)["report"] == tmp_path / "v1.5.report.json"
    given = beside(tmp_path / "out.mp4", {"report": "facts.json", "sheet": None})
    assert given == {"report": tmp_path / "facts.json"}


def test_the_working_folder_as_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = tmp_path.with_name(f"{tmp_path.name}.report.json")
    assert beside(Path("."), {"report": "auto"}, whole=True) == {"report": expected}


def test_a_name_that_this_program_chooses_is_free(tmp_path: Path) -> None:
    assert fresh(tmp_path, "photo", ".png", AUTO).output == tmp_path / "photo.png"
    (tmp_path / "photo.png").touch()
    (tmp_path / "photo.2.sheet.png").touch()
    assert fresh(tmp_path, "photo", ".png", AUTO).output == tmp_path / "photo.3.png"
    (tmp_path / "facts.json").touch()
    given = fresh(tmp_path, "photo", None, {"report": "facts.json", "sheet": "auto"})
    assert given.output is None
    assert [path.name for path in given] == ["facts.json", "photo.sheet.png"]


@pytest.mark.parametrize("taken", ["out.png", "out.report.json", "out.sheet.png"])
def test_what_is_there_is_refused_by_name(tmp_path: Path, taken: str) -> None:
    check(of(tmp_path / "out.png"), source=None)
    (tmp_path / taken).write_text("mine")
    with pytest.raises(CbsError, match=rf"{taken}'.* is there already: .*overwrite=true"):
        check(of(tmp_path / "out.png"), source=None)


def test_a_link_to_nowhere_is_there_too(tmp_path: Path) -> None:
    (tmp_path / "out.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CbsError, match="is there already"):
        check(of(tmp_path / "out.png"), source=None)


def test_overwrite_takes_the_output_and_what_was_written_with_it(tmp_path: Path) -> None:
    (tmp_path / "out.png").write_text("anybody's")
    (tmp_path / "out.report.json").write_bytes(b'{"program": "' + MARK + b'"}')
    check(of(tmp_path / "out.png"), source=None, overwrite=True)
    (tmp_path / "out.report.json").write_text('{"mine": 1}')
    with pytest.raises(CbsError, match=r"out\.report\.json'.*not written by this program.*report="):
        check(of(tmp_path / "out.png"), source=None, overwrite=True)


def test_files_in_a_folder_are_the_sinks_to_name(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    check(of(folder), source=None, taken=[])
    (folder / "a.png").touch()
    with pytest.raises(CbsError, match=r"a\.png' \(and 1 more\) is there already"):
        check(of(folder), source=None, taken=[folder / "a.png", folder])
    with pytest.raises(CbsError, match="would be written over"):
        check(of(folder), source=folder / "a.png", taken=[folder / "a.png"], overwrite=True)


def test_the_input_is_never_written_over(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.touch()
    with pytest.raises(CbsError, match="would be written over by the output"):
        check(of(photo), source=photo, overwrite=True)
    with pytest.raises(CbsError, match="would be written over by the sheet: say sheet="):
        check(of(tmp_path / "a.png", sheet="photo.png"), source=photo, overwrite=True)
    with pytest.raises(CbsError, match=r"output and sheet are both named 'a\.png'"):
        check(of(tmp_path / "a.png", sheet="a.png"), source=photo)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    first = Unfinished(tmp_path / "out.mp4")
    with pytest.raises(CbsError, match=r"another run is writing '.*out\.mp4'"):
        check(of(tmp_path / "out.mp4"), source=None)
    with pytest.raises(CbsError, match="another run is writing"):
        Unfinished(tmp_path / "out.mp4")
    assert fresh(tmp_path, "out", ".mp4", AUTO).output == tmp_path / "out.2.mp4"
    first.discard()
    check(of(tmp_path / "out.mp4"), source=None)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CbsError, match=r"file' is a file, not a folder; choose another place"):
        check(of(tmp_path / "file" / "deeper" / "out.png"), source=None)


def test_an_address_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for address in ("s3://a/b", "https://x/y.onnx", "ftp:/x/y.png", "GS://a"):
        with pytest.raises(CbsError, match="begins as an address does"):
            writable(Path(address))
    assert not [*tmp_path.iterdir()]
    writable(tmp_path / "s3:" / "a")
    (tmp_path / "s3:").mkdir()  # somebody's, by that name
    writable(Path("s3://a"))


def test_what_comes_meanwhile_stays(tmp_path: Path) -> None:
    file = Unfinished(tmp_path / "out.png")
    file.path.write_text("ours")
    (tmp_path / "out.png").write_text("theirs")
    (told,) = file.finish()
    assert "'out.2.png'" in told
    assert (tmp_path / "out.png").read_text() == "theirs"
    assert file.final.read_text() == "ours"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.2.png", "out.png"]


@pytest.mark.parametrize("links", [True, False])
def test_without_links_nothing_is_written_over_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def link(*args: object, **kwargs: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("os.link", link)
    for number in (1, 2):
        (tmp_path / "new").write_text(str(number))
        settle(tmp_path / "new", tmp_path / "out.png", over=False)
    assert (tmp_path / "out.png").read_text() == "1"
    assert (tmp_path / "out.2.png").read_text() == "2"
    (tmp_path / "new").write_text("3")
    assert settle(tmp_path / "new", tmp_path / "out.png", over=True) == tmp_path / "out.png"
    assert (tmp_path / "out.png").read_text() == "3"
