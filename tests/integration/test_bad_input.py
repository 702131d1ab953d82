"""Bad input: one line that says what is wrong and what to do, exit code 2, and nothing left."""

import resource
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from cbs_plugins.nets.dabnet import DABNet
from PIL import Image

from cbs_core.choose.registry import sinks
from tests.integration.command import COMMAND, ROUTES, WAVE, Ran
from tests.media import cut, make_clip, picture

Command = Callable[..., Ran]

REPORTS = ["report=null", "sheet=null"]


@pytest.fixture
def photo(place: Path) -> Path:
    """A small picture in the working folder."""
    Image.fromarray(picture(0)).save(place / "photo.png")
    return place / "photo.png"


@pytest.fixture
def clip(place: Path) -> Path:
    """A small clip in the working folder."""
    return make_clip(place / "clip.mp4", frames=12, sound=0.5)


@pytest.fixture
def refused(command: Command, place: Path) -> Callable[..., str]:
    """Runs ``cbs-run``, which must refuse and leave nothing; returns its one line."""

    def call(*argv: str) -> str:
        before, threads = _files(place), set(threading.enumerate())
        ran = command("hydra.run.dir=run", *argv)
        assert _files(place) == before
        assert set(threading.enumerate()) <= threads
        return only_line(ran)

    return call


def only_line(ran: Ran) -> str:
    """The message, which must read like a sentence."""
    assert ran.code == 2, ran
    assert ran.err.count("\n") == 1, ran.err
    message = ran.err.removeprefix("cbs-run: error: ").strip()
    assert message != ran.err.strip()
    for jargon in ("Traceback", "('", "['", "<class", "Error:", "None", "??", "..'", " ,", ": :"):
        assert jargon not in message.replace("'???'", "")
    return message


def _files(place: Path) -> dict[Path, bytes]:
    """Every file but those that Hydra itself writes into the run folder."""
    return {
        path: path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and ".hydra" not in path.parts and path.name != "cbs-run.log"
    }


# What is read -------------------------------------------------------------------------------


def _missing(place: Path) -> str:
    make_clip(place / "clip.mp4", frames=1)
    return "clop.mp4"


def _empty(place: Path) -> str:
    (place / "a.mp4").touch()
    return "a.mp4"


def _empty_picture(place: Path) -> str:
    (place / "a.png").touch()
    return "a.png"


def _text_video(place: Path) -> str:
    (place / "a.mp4").write_text("these are words\n" * 99)
    return "a.mp4"


def _text_picture(place: Path) -> str:
    (place / "a.png").write_text("these are words\n" * 99)
    return "a.png"


def _truncated(place: Path) -> str:
    make_clip(place / "a.mp4", frames=12)
    cut(place / "a.mp4", 0.6, place / "b.mp4")
    return "b.mp4"


def _truncated_behind_its_index(place: Path) -> str:
    make_clip(place / "a.mp4", frames=12, options={"movflags": "faststart"})
    cut(place / "a.mp4", 0.8, place / "b.mp4")
    return "b.mp4"


def _truncated_matroska(place: Path) -> str:
    make_clip(place / "a.mkv", frames=60)
    cut(place / "a.mkv", 0.5, place / "b.mkv")
    return "b.mkv"


def _truncated_picture(place: Path) -> str:
    Image.fromarray(picture(0, 640, 480)).save(place / "a.png")
    cut(place / "a.png", 0.5, place / "b.png")
    return "b.png"


def _sound_only(place: Path) -> str:
    return make_clip(place / "a.mp4", frames=0, sound=0.5).name


def _no_pictures(place: Path) -> str:
    (place / "folder").mkdir()
    (place / "folder" / "notes.txt").touch()
    return "folder"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_missing, ["clop.mp4", "did you mean 'clip.mp4'?"]),
        (_empty, ["'a.mp4' is empty"]),
        (_empty_picture, ["'a.png' is empty"]),
        (_text_video, ["'a.mp4' is no video", "give an .mp4"]),
        (_text_picture, ["'a.png' is no picture", "give a PNG"]),
        (_truncated, ["'b.mp4' is cut short", "download it again"]),
        (_truncated_behind_its_index, ["'b.mp4' is cut short", "source.allow_truncated=true"]),
        (_truncated_picture, ["'b.png' is a damaged picture", "get the file again"]),
        (_sound_only, ["holds no pictures (audio only)", "give a file with a video stream"]),
        (_no_pictures, ["folder 'folder' holds no picture"]),
        (lambda _: "sample:astronot", ["did you mean 'astronaut'?", "motorcycle"]),
        (lambda _: "nowhere/a.mp4", ["there is no folder 'nowhere'"]),
    ],
)
def test_bad_input_files(
    refused: Callable[..., str], place: Path, make: Callable[[Path], str], words: list[str]
) -> None:
    name = make(place)
    message = refused(f"input={name}", WAVE, ROUTES, *REPORTS)
    assert all(word in message for word in words), message


def test_a_cut_matroska_is_told_before_any_work(refused: Callable[..., str], place: Path) -> None:
    name = _truncated_matroska(place)
    message = refused(f"input={name}", "output=out.mp4", WAVE, ROUTES)
    assert "'b.mkv' is cut short" in message
    assert "source.allow_truncated=true" in message
    assert not (place / "out.mp4").exists()


def test_a_picture_too_large_is_refused_before_it_is_decoded(
    refused: Callable[..., str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbs_core.machine.memory.available", lambda device: 2 * 1024**3)
    Image.new("1", (16384, 16384)).save(place / "huge.png")
    message = refused("input=huge.png", WAVE, ROUTES)
    assert "16384x16384 needs about" in message
    assert "2.0 GiB free: make it smaller than about" in message


def test_of_a_folder_the_largest_picture_is_named_before_the_first_is_computed(
    refused: Callable[..., str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbs_core.machine.memory.available", lambda device: 2 * 1024**3)
    (place / "folder").mkdir()
    Image.new("RGB", (32, 32)).save(place / "folder/1.png")
    Image.new("1", (8192, 8192)).save(place / "folder/2.png")
    message = refused("input=folder", "output=out/", WAVE, ROUTES)
    assert "2.png': a frame of 8192x8192 needs about" in message
    assert not (place / "out").exists()


# What is written ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["input=photo.png", "output=text/out.png"], ["'text' is a file, not a folder"]),
        (["input=clip.mp4", "output=text/a/out.mp4"], ["'text' is a file, not a folder"]),
        (["input=clip.mp4", "output=text"], ["'text' is a file, not a folder"]),
        (["input=photo.png", "output=folder", "sink=image"], ["'folder'", "suffix"]),
        (["input=photo.png", "output=dir.png", "sink=image"], ["'dir.png' is a folder"]),
        (["input=clip.mp4", "output=dir.mp4", "sink=video"], ["'dir.mp4' is a folder"]),
        (["input=photo.png", "output=/proc/out.png"], ["cannot write '/proc/out.png'"]),
        (["input=clip.mp4", "output=/proc/a/out.mp4"], ["cannot write '/proc/a/out.mp4'"]),
        (["input=clip.mp4", "output=out.png"], ["a folder or a video file"]),
        (["input=clip.mp4", "output=out.avi"], [".avi", ".mp4, .m4v, .mov, .mkv, .webm"]),
        (["input=photo.png", "output=out.heic"], [".heic", ".png, .jpg"]),
        (["input=clip.mp4", "output=clip.mp4"], ["'clip.mp4' would be written over"]),
        (["input=photo.png", "output=./photo.png"], ["'photo.png' would be written over"]),
        (["input=photo.png", "output=."], ["'photo.png' would be written over"]),
        (["input=.", "output=."], ["would be written over", "choose another output="]),
        (["input=photo.png", "output=a.png", "sheet=a.png"], ["both named 'a.png'", "sheet=OTHER"]),
        (["input=photo.png", "output=out.png", "sheet=photo.png"], ["over by the sheet"]),
        (["input=photo.png", "output=out.png", "report=a/b"], ["report=a/b is no plain"]),
    ],
)
def test_bad_outputs(
    refused: Callable[..., str], photo: Path, clip: Path, argv: list[str], words: list[str]
) -> None:
    (photo.parent / "text").write_text("a file")
    (photo.parent / "folder").mkdir()
    (photo.parent / "dir.png").mkdir()
    (photo.parent / "dir.mp4").mkdir()
    message = refused(*argv, WAVE, ROUTES)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("argv", [["input=clip.mp4", "output=out.mp4"], ["output=out.png"]])
def test_a_file_size_limit(process: Command, clip: Path, argv: list[str]) -> None:
    before = _files(clip.parent)
    ran = process(
        *argv,
        "hydra.output_subdir=null",
        WAVE,
        ROUTES,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    message = only_line(ran)
    assert "File too large" in message
    after = _files(clip.parent)
    kept = {path.name for path in after.keys() - before.keys()}
    assert kept <= {"out.mp4"}
    assert bool(kept) == (" is closed, with " in message)
    assert {path: after.get(path) for path in before} == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["out.mp4", "out.png", "out"])
def test_a_full_disk(command: Command, small_disk: Path, place: Path, name: str) -> None:
    make_clip(place / "clip.mp4", frames=30, width=320, height=240)
    source = "sample:astronaut" if name == "out.png" else "clip.mp4"
    best = ["sink.crf=1"] if name == "out.mp4" else []
    message = only_line(
        command(f"input={source}", f"output={small_disk / name}", *best, WAVE, ROUTES)
    )
    assert "No space left" in message
    assert f"'{small_disk / name}" in message
    kept = [path.name for path in small_disk.iterdir()]
    assert kept in ([], [name])
    assert bool(kept) == (" is closed, with " in message)


def test_a_sheet_that_cannot_be_written_keeps_the_output(
    command: Command, photo: Path, small_disk: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    Image.fromarray(noise).save(photo)
    output = small_disk / "out.png"
    message = only_line(command("input=photo.png", f"output={output}", WAVE, ROUTES))
    assert f"cannot write '{small_disk / 'out.sheet.png'}'" in message
    assert "the output itself is done" in message
    assert sorted(path.name for path in small_disk.iterdir()) == ["out.png", "out.report.json"]


def test_the_run_folder_cannot_be_written(
    command: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/proc")
    message = only_line(command(WAVE))
    assert "cannot write the run folder" in message
    assert "hydra.run.dir=FOLDER" in message


# Weights ------------------------------------------------------------------------------------


def test_weights_that_are_not_there(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Path
) -> None:
    assert "no.pth" in refused(WAVE, "segmenter.weights=no.pth")
    assert "no.pth" in refused("styler.weights=no.pth")
    monkeypatch.setattr("cbs_core.choose.weights.search_folders", lambda: (tmp_path,))
    assert "styler.weights=FILE" in refused(WAVE)
    own = f"styler.weights={weights / 'johnson/wave.pth'}"
    assert "segmenter.weights=FILE" in refused(own)


def test_damaged_weights_and_those_of_another_net(
    refused: Callable[..., str], photo: Path, weights: Path
) -> None:
    cut(weights / "dabnet/cityscapes.pth", 0.5, photo.with_name("cut.pth"))
    photo.with_name("text.safetensors").write_text("words")
    torch.save(DABNet(13).state_dict(), photo.with_name("thirteen.pth"))
    run = ["input=photo.png", WAVE]
    assert "'cut.pth' is damaged" in refused(*run, "segmenter.weights=cut.pth")
    assert "is damaged" in refused(*run, "segmenter.weights=text.safetensors")
    wave = weights / "johnson/wave.pth"
    assert "another net than DABNet" in refused(*run, f"segmenter.weights={wave}")
    city = weights / "dabnet/cityscapes.pth"
    assert "another net than TransformerNet" in refused(*run, f"styler.weights={city}")
    assert "trained for 13 classes" in refused(*run, "segmenter.weights=thirteen.pth")
    assert "trained for 19 classes" in refused(
        *run, f"segmenter.weights={city}", "segmenter.vocabulary=camvid"
    )


# Words and values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["routes=[kar]"], ["no class 'kar'; did you mean 'car'?", "bicycle"]),
        (["routes=[xyzzy]"], ["no class 'xyzzy' (", "bicycle"]),
        (["routes={car: wavy}"], ["'wavy'; did you mean 'wave'?", "starry_night"]),
        (["routes=[]"], ["names no class"]),
        (["routes=5"], ["names no class"]),
        (["routes={car"], ["'routes={car: wave}'"]),
        (["routes={car: {style: wave, strength: abc}}"], ["strength 'abc'", "0..1"]),
        (["routes={car: {style: wave, strength: 7}}"], ["strength 7", "0..1"]),
        (["routes={car: {style: wave, keep_color: 3}}"], ["keep_color '3'", "true or false"]),
        (["routes={car: {style: wave, glow: 3}}"], ["'glow'", "style, weights"]),
        (["styler.style=wavy"], ["did you mean 'wave'?", "starry_night"]),
        (["inptu=a.png"], ["unknown key 'inptu'; did you mean 'input'?"]),
        (["styler.stile=wave"], ["'styler.stile'; did you mean 'style'?"]),
        (["compositor.radius=3"], ["'compositor.radius'", "+compositor.radius=VALUE"]),
        (["input.name=3"], ["unknown key 'input.name'"]),
        (["segmnter=dabnet"], ["'segmnter'; did you mean 'segmenter'?"]),
        (["segmenter=dabnot"], ["'dabnot'; did you mean 'dabnet'?", "cbs-plugins list"]),
        (["styler=null"], ["styler=null chooses no plugin"]),
        (["input=???"], ["no value for input", "input=VALUE"]),
        (["styler.style=???"], ["no value for styler.style"]),
        (["input="], ["input= names nothing"]),
        (["sheet_frames=-1"], ["sheet_frames=-1", "0 or more"]),
        (["sheet_frames=many"], ["sheet_frames=many"]),
        (["sheet_frames=10000000000"], ["sheet_frames=10000000000", "up to 100"]),
        (["quiet=perhaps"], ["quiet=perhaps"]),
        (["matte=sofft"], ["no matte 'sofft'; did you mean 'soft'?", "argmax, soft"]),
        (["precision=fp8"], ["no precision 'fp8'", "fp32, fp16, bf16"]),
        (["device=tpu"], ["no device 'tpu'", "auto, cpu, cuda, cuda:0"]),
        (["compositor=feather", "compositor.radius=wide"], ["takes a whole number as radius"]),
        (["source=pan", "source.frames=many"], ["takes a whole number as frames"]),
        (["input=photo.png", "sink.quality=high"], ["takes a whole number as quality"]),
        (["input=clip.mp4", "sink.codec=h999"], ["'h999'"]),
        (["input=clip.mp4", "sink.preset=fastest"], ["'fastest'", "veryfast"]),
        (["input=clip.mp4", "sink.crf=99"], ["crf", "99"]),
        (["styler.style=wave,starry_night"], ["several values", "add -m"]),
        (["routes=car,person"], ["several values", "a list is routes=[car,person]"]),
        ([ROUTES, "routes={car: wave}"], ["give that option once"]),
        (["photo.png"], ["'photo.png' is no option", "input=photo.png"]),
        (["--input=photo.png"], ["no flag '--input=photo.png'", "without dashes"]),
        (["routes=" + "[" * 500 + "]" * 500], ["500 levels", "40"]),
        (["+x=" + "f(" * 300 + ")" * 300], ["300 levels", "40"]),
        (["hydra.searchpath=[ftp://x]"], ["hydra.searchpath", "'ftp://'", "a folder"]),
        (["--config-dir", "nowhere"], ["nowhere"]),
        (["--config-name", "mine"], ["no configuration file 'mine'"]),
    ],
)
def test_bad_options(
    refused: Callable[..., str], photo: Path, clip: Path, argv: list[str], words: list[str]
) -> None:
    message = refused(WAVE, *argv)
    assert all(word in message for word in words), message


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_gpu_is_said(refused: Callable[..., str]) -> None:
    message = refused("device=cuda", WAVE)
    assert "cannot use a GPU" in message
    assert "device=cpu" in message


def test_presets_with_a_hole_or_a_fault(refused: Callable[..., str], photo: Path) -> None:
    folder = photo.parent / "presets" / "styler"
    folder.mkdir(parents=True)
    (folder / "open.yaml").write_text("name: johnson\nstyle: ???\nweights: null\n")
    (folder / "fault.yaml").write_text("name: johnson\n style: [\n")
    (folder / "lost.yaml").write_text("name: johnson\nstyle: ${nowhere}\nweights: null\n")
    (folder / "nameless.yaml").write_text("style: wave\n")
    run = ["--config-dir", "presets", "input=photo.png"]
    assert "no value for styler.style" in refused(*run, "styler=open")
    assert "fault.yaml', line 2, is no YAML" in refused(*run, "styler=fault")
    assert "'nowhere' not found" in refused(*run, "styler=lost")
    assert "say styler=NAME" in refused(*run, "styler=nameless")


def test_a_sweep_stops_at_the_first_bad_input(command: Command, photo: Path) -> None:
    run = ["-m", "input=photo.png,lost.png", "hydra.sweep.dir=sweep", "quiet=true"]
    message = only_line(command(*run, WAVE, ROUTES))
    assert "no file 'lost.png'" in message
    assert (photo.parent / "sweep/0/photo.png").is_file()


# Tracebacks -------------------------------------------------------------------------------------


def test_the_traceback_is_shown_on_request(
    process: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    ran = process("input=lost.png", WAVE)
    assert ran.code != 0
    assert "Traceback" in ran.err
    assert "SourceError: no file 'lost.png'" in ran.err


def test_a_fault_of_the_program_is_called_one(
    command: Command, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("cbs_core.run.report.Report.as_dict", broken)
    ran = command("input=photo.png", "output=out.png", WAVE, ROUTES)
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "unexpected ZeroDivisionError" in ran.err
    assert "HYDRA_FULL_ERROR=1" in ran.err


class Speaker:
    """A stranger's sink that is no file."""

    def __init__(self) -> None:
        self.closed = False

    def open(self, info: object, /) -> None: ...
    def write(self, frame: object, /) -> None: ...
    def close(self, *, complete: bool = True) -> None: ...
    def abort(self) -> None: ...


def test_a_sink_that_is_no_file_needs_no_path(
    command: Command, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "_registered", {"speaker": Speaker})
    ran = command("input=photo.png", "sink=speaker", WAVE, ROUTES)
    assert (ran.code, ran.err) == (0, "")


def test_a_reader_that_leaves_is_no_fault(place: Path) -> None:
    line = f"{COMMAND} --cfg job | true"
    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert ran.stderr == ""


@pytest.mark.parametrize("gib", [0.7, 1.5, 3.0, 3.3])
def test_a_process_that_may_not_take_the_addresses_that_torch_needs(
    process: Command, place: Path, photo: Path, gib: float
) -> None:
    """As by ``ulimit -v``; a torch without CUDA takes less than the larger ones."""
    before, bound = _files(place), int(gib * 2**30)
    ran = process(
        *("input=photo.png", "output=out.png", WAVE, ROUTES, "hydra.run.dir=run"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (bound, bound)),
    )
    if ran.code == 0 and gib > 1.5:
        assert (place / "out.png").is_file()
        return
    assert "ulimit -v" in only_line(ran)
    assert _files(place) == before
