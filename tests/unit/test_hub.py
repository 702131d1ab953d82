"""Checkpoints by name: what is asked of the Hub, told, kept in its cache, and refused; by a server
in this process that answers as the Hub does."""

import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cbs_core.choose import weights
from cbs_core.contract.errors import WeightsError, WeightsMissingError
from tests.tiny_transformers import save

pytest.importorskip("transformers", reason="needs transformers: the extra [huggingface]")

from cbs_plugins.formats import hub
from cbs_plugins.segmenters.huggingface import _check

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/segformer-tiny"
TOLD = ("model_type", "auto_map", "architectures")


class Hub(ThreadingHTTPServer):
    """Has one model, the files of a folder."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: list[str] = []

    def info(self):
        files = [
            {"rfilename": path.name, "size": path.stat().st_size}
            for path in sorted(self.folder.iterdir())
        ]
        config = json.loads((self.folder / "config.json").read_text())
        return {
            "id": NAME,
            "sha": COMMIT,
            "private": False,
            "gated": False,
            "tags": [],
            "downloads": 0,
            "siblings": files,
            "cardData": {"license": "apache-2.0"},
            "config": {
                key: config[key]
                for key in ("model_type", "auto_map", "architectures")
                if key in config
            },
        }


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        if path.startswith(f"/api/models/{NAME}") and "/tree/" not in path:
            self.answer(json.dumps(self.server.info()).encode(), body)
        elif path.startswith(f"/api/models/{NAME}/tree/"):
            listed = [
                {"type": "file", "path": one["rfilename"], "size": one["size"], "oid": "0" * 40}
                for one in self.server.info()["siblings"]
            ]
            self.answer(json.dumps(listed).encode(), body)
        elif path.startswith(f"/{NAME}/resolve/"):
            self.answer((self.server.folder / path.rpartition("/")[2]).read_bytes(), body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def answer(self, data: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = save("segformer", tmp_path_factory.mktemp("hub") / "net")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    return folder


@pytest.fixture
def server(checkpoint, tmp_path, monkeypatch):
    from huggingface_hub import constants

    server = Hub(Path(shutil.copytree(checkpoint, tmp_path / "on the hub")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    files = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def find(name=NAME, revision=None):
    return hub.find(name, revision, key="segmenter.model", check=_check)


def test_a_model_is_told_downloaded_once_and_named_by_its_commit(server, caplog):
    found = find()
    size = sum(
        (server.folder / name).stat().st_size
        for name in ("config.json", "preprocessor_config.json", "model.safetensors", "README.md")
    )
    (told,) = [line for line in caplog.messages if "downloading" in line]
    assert f"{NAME} at {COMMIT}" in told
    assert f"{size / 1e6:.1f} MB" in told
    assert "licence: apache-2.0" in told
    assert {file.revision for file in found.files} == {COMMIT}
    assert {fact["revision"] for fact in weights.facts(found.files)} == {COMMIT}
    assert not any("pytorch_model" in path for path in server.asked)
    server.asked.clear()
    again = find()
    assert again == found
    assert not server.asked


def test_what_the_hub_has_not_is_told(server):
    with pytest.raises(WeightsMissingError, match="no model 'someone/else'"):
        find("someone/else")


def test_pickles_are_not_downloaded(server):
    (server.folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"only pytorch_model\.bin"):
        find()
    assert not any("/resolve/" in path for path in server.asked)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}, "code of its own"),
        ({"model_type": "detr", "architectures": ["DetrForObjectDetection"]}, "does not segment"),
    ],
)
def test_models_of_no_use_are_not_downloaded(changes, said, server):
    config = json.loads((server.folder / "config.json").read_text()) | changes
    (server.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=said):
        find()
    assert not any("/resolve/" in path for path in server.asked)


def test_no_network_is_one_line(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissingError, match="not in the Hub's cache") as told:
        find()
    assert "\n" not in str(told.value)


def test_offline_is_one_line(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissingError, match="OfflineModeIsEnabled"):
        find()
