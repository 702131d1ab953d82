"""Batches whose inputs and outputs lie in object stores: fsspec's memory, and a real S3 server."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import fsspec
import numpy as np
import pytest
from cbs_plugins.sources.video import VideoSource
from PIL import Image

from cbs_core.batch.away import Away
from cbs_core.batch.items import Item
from cbs_core.batch.mirror import Mirror
from cbs_core.batch.session import batch_session
from cbs_core.batch.tasks import Bundle, Whole
from cbs_core.contract.engines import Task
from cbs_core.contract.errors import CbsError, ConfigError, SourceError, SourceLostError
from cbs_core.contract.stored import Stored
from cbs_core.machine import stores
from tests.media import frame_times, make_clip, picture, rgb_frames, sound_packets
from tests.stores import s3_bucket
from tests.unit.test_batch import Flaky, plugged, said


def batch(**more: object) -> int:
    return batch_session(said(**more))


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    plugged(monkeypatch)
    Flaky.lose.clear()
    Flaky.seen.clear()
    Flaky.interrupt = None
    monkeypatch.chdir(tmp_path)
    yield
    Flaky.interrupt = None
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 frames at uneven times with sound."""
    folder = tmp_path_factory.mktemp("clip")
    ticks = [i * 40 + (i % 3) * 7 for i in range(120)]
    return make_clip(
        folder / "clip.mp4", frames=120, ticks=ticks, time_base=Fraction(1, 1000), sound=5
    )


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An S3 server of this process's own, with a bucket."""
    with s3_bucket() as address:
        yield address


def conditional(handler: Callable[..., None], missing: type[Exception]) -> Callable[..., None]:
    """Returns what uploads to the fake of Google's store, with the condition that it leaves out."""

    def upload(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:
        if request.query.get("ifGenerationMatch") == ["0"]:
            data = request.data
            name = (data.get("meta") or data)["name"]
            with suppress(missing):
                storage.get_file_obj(request.params["bucket_name"], name)
                response.status = HTTPStatus.PRECONDITION_FAILED
                return
        handler(request, response, storage, *args, **kwargs)

    return upload


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    """A fake of Google's store in this process, with a bucket."""
    gcsfs = pytest.importorskip("gcsfs")
    fake = pytest.importorskip("gcp_storage_emulator.server")
    missing = import_module("gcp_storage_emulator.exceptions").NotFound
    with pytest.MonkeyPatch.context() as patch:
        for _, methods in fake.HANDLERS:
            for method, handler in methods.items():
                if handler is fake.objects.insert:
                    patch.setitem(methods, method, conditional(handler, missing))
        server = fake.create_server("127.0.0.1", 0, in_memory=True, default_bucket="films")
        server.start()
        port = server._api._httpd.server_address[1]
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        patch.setenv("NO_GCE_CHECK", "true")  # nobody is asked whether this is a machine of Google
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield "gs://films"
        gcsfs.GCSFileSystem.clear_instance_cache()
        server.stop()


@pytest.fixture(params=["memory", "s3", "gs"])
def root(request: pytest.FixtureRequest) -> str:
    """A place in each store, another one a test."""
    name = request.node.name.partition("[")[0][-40:]
    real = {"s3": "bucket", "gs": "google"}.get(request.param)
    base = "memory://films" if real is None else request.getfixturevalue(real)
    return f"{base}/{name}"


def put(path: Path, address: str) -> None:
    stores._system(Stored(address)).put_file(str(path), address)


def names(address: str) -> list[str]:
    folder, _, last = address.rpartition("/")
    return stores.Store(folder).names(last)


def got(address: str, path: Path) -> Path:
    stores.fetch(Stored(address), path)
    return path


def test_a_folder_of_a_store_is_done_into_another(root: str, clip: Path, tmp_path: Path) -> None:
    put(clip, f"{root}/in/a/clip.mp4")
    Image.fromarray(picture(1, 32, 24)).save("p.png")
    put(Path("p.png"), f"{root}/in/p.png")
    (tmp_path / "notes.txt").write_text("x")
    put(Path("notes.txt"), f"{root}/in/notes.txt")
    Flaky.interrupt = "a/clip.mp4 48-96"
    config = {"input": f"{root}/in", "output": f"{root}/out", "window": 48}
    assert batch(**config) == 130
    assert [name for name in names(f"{root}/out") if "clip.mp4" in name] == []  # nothing half
    Flaky.interrupt = None
    Flaky.seen.clear()
    assert batch(**config) == 0
    windows = [name for name in Flaky.seen if name.startswith("a/clip.mp4 ") and "-" in name]
    assert windows == ["a/clip.mp4 48-96", "a/clip.mp4 96-120"]
    assert names(f"{root}/out") == ["out/a/clip.mp4", "out/p.png"]
    assert all("/journal/" in name for name in names(f"{root}/out.batch"))
    made = got(f"{root}/out/a/clip.mp4", tmp_path / "made.mp4")
    assert batch(input=str(clip), output="here.mp4", window=48) == 0
    assert all(map(np.array_equal, rgb_frames(made), rgb_frames(Path("here.mp4"))))
    assert frame_times(made) == frame_times(clip)
    assert sound_packets(made) == sound_packets(clip)
    told = json.loads(stores.Store(root).read("out.report.json"))
    assert told["outputs"] == {"done": 2, "done before": 0, "failed": 0, "passed over": 1}
    assert {one.get("output") for one in told["items"]} == {
        f"{root}/out/a/clip.mp4",
        f"{root}/out/p.png",
        None,
    }
    Image.fromarray(picture(2, 32, 24)).save("p.png")
    put(Path("p.png"), f"{root}/in/new.png")
    Flaky.seen.clear()
    assert batch(**config) == 0
    assert Flaky.seen == ["hello", "new.png"]
    with pytest.raises(ConfigError, match=f"'{root}/out' holds what another batch made"):
        batch(**config, matte="soft")


def test_what_is_there_is_refused_and_a_second_driver_too(root: str) -> None:
    Image.fromarray(picture(1, 32, 24)).save("p.png")
    put(Path("p.png"), f"{root}/out/p.png")
    with pytest.raises(ConfigError, match=f"'{root}/out/p.png' is there already"):
        batch(input="p.png", output=f"{root}/out")
    assert names(f"{root}/out.batch") == []
    ours, theirs = (Mirror(f"{root}/new", Path(one)) for one in ("ours", "theirs"))
    ours.begin(b"{}\n")
    theirs.pull("report")
    ours.add(b"1\n")
    with pytest.raises(ConfigError, match="another batch is writing"):
        theirs.add(b"2\n")


def test_a_second_driver_leaves_all_of_the_first(root: str) -> None:
    ours, theirs, late = (Mirror(f"{root}/new", Path(one)) for one in ("ours", "theirs", "late"))
    ours.begin(b'{"version": 1, "identity": 1}\n')
    theirs.pull("report")
    ours.add(b"1\n")
    ours.store.write(b"x", "new.batch/parts/a/0-240.mp4", over=True)
    before = names(f"{root}/new.batch")
    assert len(before) == 3
    with pytest.raises(ConfigError, match="another batch is writing"):
        late.begin(b"{}\n")  # had looked before there was any
    for attempt in range(2):
        for one in (theirs, late):
            state = one.root.with_name("new.batch")
            one.forget(state / "parts", state / "journal.jsonl")
        assert names(f"{root}/new.batch") == before
        if not attempt:
            with pytest.raises(ConfigError, match="another batch is writing"):
                theirs.begin(b"{}\n")
    assert ours.store.read(before[0]).startswith(b"{")


def test_a_journal_that_was_begun_anew_is_read_from_there(root: str) -> None:
    Image.fromarray(picture(1, 32, 24)).save("p.png")
    put(Path("p.png"), f"{root}/in/p.png")
    config = {"input": f"{root}/in", "output": f"{root}/out"}
    assert batch(**config) == 0
    old = {name: stores.Store(root).read(name) for name in names(f"{root}/out.batch")}
    assert batch(**config, matte="soft", overwrite=True) == 0
    assert old.keys().isdisjoint(names(f"{root}/out.batch"))
    for name, line in old.items():  # as if it had been killed before these were removed
        stores.Store(root).write(line, name, over=False)
    Flaky.seen.clear()
    assert batch(**config, matte="soft") == 0
    assert not Flaky.seen


def test_what_the_batch_wrote_is_no_input(root: str) -> None:
    Image.fromarray(picture(1, 32, 24)).save("p.png")
    for name in ("p.png", "b/q.png"):
        put(Path("p.png"), f"{root}/{name}")
    for found in (root, f"{root}/**/*.png"):
        assert batch(input=found, output=f"{root}/out") == 0
        assert names(f"{root}/out") == ["out/b/q.png", "out/p.png"]
    before = stores.Store(root).read("p.png")
    with pytest.raises(ConfigError, match=f"'{root}/.*' would be written over by its output"):
        batch(input=root, output=root, overwrite=True)
    assert stores.Store(root).read("p.png") == before
    with pytest.raises(SourceError, match=rf"no file is like '{root}/\*.mp4'"):
        batch(input=f"{root}/*.mp4", output="here")
    with pytest.raises(SourceError, match=f"lies below, '{root}/none.mp4'"):
        batch(input=f"{root}/none.mp4", output="here")


def test_objects_that_stand_for_folders_are_no_files(bucket: str) -> None:
    Image.fromarray(picture(1, 32, 24)).save("p.png")
    put(Path("p.png"), f"{bucket}/marked/in/p[1].png")
    for key in ("marked/in/", "marked/in/empty/", "marked/out/"):
        stores._system(Stored(bucket)).call_s3("put_object", Bucket="films", Key=key, Body=b"")
    for found in ("in", "in/**", "in/p[1].png", "in/p?1?.png"):
        assert batch(input=f"{bucket}/marked/{found}", output=f"{bucket}/marked/out") == 0
        assert names(f"{bucket}/marked/out") == ["out/p[1].png"]
    told = json.loads(stores.Store(f"{bucket}/marked").read("out.report.json"))
    assert [one["status"] for one in told["items"]] == ["done before"]


def test_a_failed_batch_names_its_report_where_it_lies(
    root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stores.Store(root).write(b"none", "in/p.png", over=True)
    assert batch(input=f"{root}/in", output=f"{root}/out") == 2
    assert f"'{root}/out.report.json' tells of each" in capsys.readouterr().err


def test_of_files_alone_nothing_is_brought(monkeypatch: pytest.MonkeyPatch) -> None:
    class Same:
        def do(self, task: Task, /) -> Task:
            return task

        def close(self) -> None:
            pass

    monkeypatch.delattr("cbs_core.batch.away.scratch")
    item = Item("a.png", "in/a.png", Path("out/a.png"))
    for what in (Whole(item), Bundle((item,), Path("drafts"))):
        task = Task("a.png", what)
        assert Away(Same(), None).do(task) is task


def test_an_address_of_a_file_names_no_machine(tmp_path: Path) -> None:
    assert stores.local(tmp_path.as_uri()) == str(tmp_path)
    with pytest.raises(ConfigError, match="'file://films/out' is no path of this machine"):
        batch(input="p.png", output="file://films/out")


def test_a_file_is_the_output_of_one_input(root: str, clip: Path, tmp_path: Path) -> None:
    assert batch(input=str(clip), output=f"{root}/film.mp4", window=48) == 0
    assert names(f"{root}/film.mp4") == ["film.mp4"]
    assert names(f"{root}/film.mp4.batch") == []
    assert names(f"{root}/film.report.json") == ["film.report.json"]
    assert frame_times(got(f"{root}/film.mp4", tmp_path / "made.mp4")) == frame_times(clip)


def noisy(path: Path) -> Path:
    """Writes a clip of many bytes."""
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, width=128, height=96)
        stream.pix_fmt, stream.gop_size, stream.options = "yuv420p", 10, {"crf": "1"}
        for _ in range(120):
            pixels = noise.integers(0, 256, (96, 128, 3), dtype=np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def test_a_window_reads_its_own_range(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    film = noisy(tmp_path / "noise.mp4")
    put(film, f"{bucket}/ranges/noise.mp4")
    read: list[int] = []
    usual = s3fs.S3File._fetch_range

    def counted(self: object, start: int, end: int) -> bytes:
        read.append(end - start)
        return usual(self, start, end)

    monkeypatch.setattr(s3fs.S3File, "_fetch_range", counted)
    monkeypatch.setattr(stores, "AHEAD", 1 << 15)
    whole = film.stat().st_size
    assert whole > 20 * stores.AHEAD
    by_task: dict[str, int] = {}
    usual_wait = Flaky.wait

    def wait(self: Flaky) -> object:
        read.clear()
        outcome = usual_wait(self)
        by_task[outcome.task.name] = sum(read)
        return outcome

    monkeypatch.setattr(Flaky, "wait", wait)
    assert batch(input=f"{bucket}/ranges/noise.mp4", output="made.mp4", window=20) == 0
    windows = [size for name, size in by_task.items() if name[-1].isdigit()]
    assert len(windows) > 5
    assert max(windows) < whole / 2
    assert len(rgb_frames(Path("made.mp4"))) == 120


class Ranged(SimpleHTTPRequestHandler):
    """Serves files, and ranges of them where its server does."""

    def log_message(self, *args: object) -> None:
        pass

    def send_head(self):  # type: ignore[no-untyped-def]
        ranges = getattr(self.server, "ranges")  # noqa: B009
        asked = self.headers.get("Range", "")
        path = Path(self.translate_path(self.path.partition("?")[0]))
        if not ranges or not asked.startswith("bytes=") or not path.is_file():
            return super().send_head()
        first, _, last = asked.removeprefix("bytes=").partition("-")
        content = path.read_bytes()
        end = min(int(last or len(content) - 1), len(content) - 1)
        part = content[int(first) : end + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{end}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None


@pytest.mark.parametrize("ranges", [True, False])
def test_inputs_of_a_web_server_and_no_secret_anywhere(
    clip: Path, tmp_path: Path, ranges: bool
) -> None:
    pytest.importorskip("aiohttp")
    handler = partial(Ranged, directory=str(clip.parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.ranges = ranges  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/clip.mp4?token=SECRET"
        missing = f"http://127.0.0.1:{server.server_port}/none.mp4?token=SECRET"
        assert batch(input=[address, missing], output="out", window=48) == 2
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert frame_times(Path("out/clip.mp4")) == frame_times(clip)
    written = [path for path in tmp_path.rglob("*.json*") if path.is_file()]
    assert written
    assert not [path for path in written if b"SECRET" in path.read_bytes()]


def test_what_is_missing_is_told_in_a_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture(1, 32, 24)).save("p.png")
    with pytest.raises(CbsError, match=r"there is no bucket 's3://nobodys'"):
        batch(input="p.png", output="s3://nobodys/out")
    with pytest.raises(ConfigError, match=r"https://a/b' cannot be written to|cannot be written"):
        batch(input="p.png", output="https://a/b/out")
    with pytest.raises(ConfigError, match="bucket alone"):
        batch(input="p.png", output="s3://films")

    def without(scheme: str, **more: object) -> object:
        raise ImportError("Install gcsfs to access Google Storage", name="gcsfs")

    with monkeypatch.context() as patch:
        patch.setattr(fsspec, "filesystem", without)
        with pytest.raises(ConfigError, match=r"gcsfs: pip install 'class-based-styling\[gs\]'"):
            batch(input="p.png", output="gs://b/out")
    reason = stores._reason(Stored("s3://b/x"), NoCredentialsError("Unable to locate credentials"))
    assert "AWS_ACCESS_KEY_ID" in reason
    with pytest.raises(SourceError, match="no such file"):
        stores.size(Stored(f"{bucket}/none.mp4"))


class Losing:
    """A store's file whose connection is lost after some bytes."""

    def __init__(self, content: bytes, most: int) -> None:
        self._file, self._left = io.BytesIO(content), most

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise LookupError("lost https://films.example/a.mp4?token=SECRET")
        return self._file.read(size)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_is_lost_midway_is_told_in_a_line_without_a_secret(
    clip: Path,
    share: float,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    content = clip.read_bytes()
    most = round(share * len(content))
    system = SimpleNamespace(
        open=lambda *words, **more: Losing(content, most), size=lambda address: len(content)
    )
    monkeypatch.setattr(stores, "_system", lambda file: system)
    with (
        pytest.raises(SourceLostError, match=r"a.mp4': it cannot be had \(LookupError") as told,
        VideoSource("https://films.example/a.mp4?token=SECRET") as source,
    ):
        list(source)
    assert "SECRET" not in str(told.value)
    assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")


class NoCredentialsError(Exception):
    """As botocore calls it."""
