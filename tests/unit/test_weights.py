import hashlib
import pickle
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cbs_core.choose import weights
from cbs_core.choose.registry import REGISTRIES
from cbs_core.contract.errors import (
    WeightsError,
    WeightsHashError,
    WeightsKeysError,
    WeightsMissingError,
)

FLAG = "styler.weights"


@pytest.fixture
def folders(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Two folders of $CBS_WEIGHTS; the working directory and the cache are empty."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("CBS_WEIGHTS", f"{first}:{second}")
    return first, second


def put(folder: Path, name: str) -> Path:
    path = folder / "room" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_folders_are_searched_in_order(folders, tmp_path):
    packages = list(weights.packages.folders("weights").values())
    places = (*folders, tmp_path / "cwd/weights", tmp_path / "cache/cbs/weights")
    searched = [path.resolve() for path in weights.search_folders()]
    assert searched == [*folders, *packages, *places[2:]]
    for place in reversed(places):
        path = put(place, "wave.pth")
        assert weights.find("room", "wave", flag=FLAG).resolve() == path


def package(site: Path, name: str, *files: str) -> None:
    """Puts a package that must not be imported where Python finds it."""
    (site / name).mkdir(parents=True)
    (site / name / "__init__.py").write_text("raise AssertionError('imported')")
    for file in files:
        put(site / name / "weights", file).with_suffix(".md").write_text(f"# {name}")


@pytest.fixture
def strangers(folders, tmp_path, monkeypatch) -> Path:
    """Two packages that hold weights, each with a plugin, and one without; returns where."""
    site = tmp_path / "site"
    package(site, "cbs_zebra", "sky.safetensors", "wave.safetensors")
    package(site, "cbs_aaa", "wave.safetensors")
    package(site, "cbs_bare")
    monkeypatch.syspath_prepend(str(site))
    registry = REGISTRIES["styler"]
    entries = {
        name: (EntryPoint(name, f"cbs_{name}.sub:Plugin", registry.group),)
        for name in ("zebra", "aaa", "bare", "not.a.package")
    }
    monkeypatch.setitem(registry.__dict__, "_entries", registry._entries | entries)
    yield site
    assert not {"cbs_zebra", "cbs_aaa", "cbs_bare"} & sys.modules.keys()


def test_weights_in_a_strangers_package_are_found(strangers, folders):
    found = weights.find("room", "sky", flag=FLAG)
    assert found == strangers / "cbs_zebra/weights/room/sky.safetensors"
    assert weights.card(found).read_text() == "# cbs_zebra"
    assert weights.card(put(folders[0], "plain.pth")) is None
    assert "room" in weights.rooms()
    put(Path("weights"), "sky.pth")
    assert weights.find("room", "sky", flag=FLAG) == found, "nobody named ./weights"
    mine = put(folders[1], "sky.pth")
    assert weights.find("room", "sky", flag=FLAG) == mine


def test_of_two_packages_the_order_decides(strangers):
    ours, *theirs = weights.search_folders()[2:-2]
    assert (ours / "johnson" / "starry_night.safetensors").is_file(), "ours go first"
    assert theirs == [strangers / "cbs_aaa/weights", strangers / "cbs_zebra/weights"]
    first, second = weights.everywhere("room")["wave"]
    assert (first.parents[2].name, second.parents[2].name) == ("cbs_aaa", "cbs_zebra")
    assert weights.find("room", "wave", flag=FLAG) == first


def test_the_licence_is_read_from_the_header(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata={"licence": "CC0"})
    assert weights.licence(path) == "CC0"
    save_file({"weight": torch.ones(2)}, path)
    assert weights.licence(path) == ""
    for content in (b"", b"x" * 30, (8).to_bytes(8, "little") + b"[1, 2]  "):
        path.write_bytes(content)
        assert weights.licence(path) == ""
    assert weights.licence(tmp_path / "none.safetensors") == ""


def test_in_the_first_folder_the_exact_name_wins_then_the_widest(folders):
    put(folders[1], "wave_width8.pth")
    wide = put(folders[1], "wave_width16.safetensors")
    assert weights.find("room", "wave", flag=FLAG) == wide
    assert weights.find("room", "wave_width8", flag=FLAG).name == "wave_width8.pth"
    exact = put(folders[1], "wave.pth")
    assert weights.find("room", "wave", flag=FLAG) == exact
    first = put(folders[0], "wave_width8.pth")
    assert weights.find("room", "wave", flag=FLAG) == first
    assert weights.names("room") == ["wave"]


def test_where_files_are_from_is_told(strangers, folders):
    sky = strangers / "cbs_zebra/weights/room/sky.safetensors"
    files = [sky, put(folders[0], "a.pth"), put(Path("weights"), "b.pth"), sky.with_stem("wave")]
    read = [weights.WeightsFile(path, f"{place}", "CC0") for place, path in enumerate(files)]
    assert weights.told(read) == (
        f"room/sky, room/wave (package cbs_zebra); {files[1]} ($CBS_WEIGHTS); weights/room/b.pth"
    )
    assert weights.told([]) == "none"
    assert [fact["from"] for fact in weights.facts(read)] == [
        *("package cbs_zebra", "$CBS_WEIGHTS", "path", "package cbs_zebra")
    ]


def test_what_a_training_reads_is_noted(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"weight": torch.ones(2)}, path)
    with weights.noted() as outer:
        file = weights.load(path).file
        with weights.noted() as inner:
            weights.load(path)
    weights.load(path)
    assert (outer, inner) == ([file], [file])


def test_other_files_are_no_weights(folders):
    put(folders[0], "LICENSE.txt")
    assert weights.available("room") == {}


def test_unknown_name_gets_the_closest_and_the_fix(folders):
    with pytest.raises(WeightsMissingError, match="no room weights were found"):
        weights.find("room", "wave", flag=FLAG)
    put(folders[0], "wave_width8.pth")
    with pytest.raises(WeightsMissingError) as error:
        weights.find("room", "vave", flag=FLAG)
    for part in ("did you mean 'wave'", "there are: wave", "styler.weights=FILE", str(folders[0])):
        assert part in str(error.value)


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_torch_files_may_wrap_their_tensors(tmp_path, wrapper):
    state = {"module.weight": torch.ones(2)}
    path = tmp_path / "net.pth"
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    checkpoint = weights.load(path)
    assert list(checkpoint.tensors) == ["weight"]
    assert checkpoint.metadata == {}


def test_safetensors_metadata_is_read(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata={"vocabulary": "voc"})
    checkpoint = weights.load(path)
    assert checkpoint.metadata == {"vocabulary": "voc"}
    assert torch.equal(checkpoint.tensors["weight"], torch.ones(2))


def test_digest_is_told_and_checked(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"weight": torch.ones(2)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.load(path, sha256=digest).file == weights.WeightsFile(path, digest)
    with pytest.raises(WeightsHashError, match=f"SHA-256 {digest}, not {'0' * 64}"):
        weights.load(path, sha256="0" * 64)


@pytest.mark.shared
def test_official_checkpoint_has_its_digest(shared):
    weights.load(
        shared / "weights/dabnet/dabnet_cityscapes.pth",
        sha256="9a8ecc415e9199f5ebd26e21abdd10facd7010d209c812555f98b6b95766aa40",
    )


class Touch:
    """A pickle that makes a file when it is loaded by a careless reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x, 2))])
def test_code_in_a_pickle_is_not_run(tmp_path, save):
    ran = tmp_path / "ran"
    save({"weight": Touch(ran)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="save it as safetensors"):
        weights.load(tmp_path / "net.pth")
    assert not ran.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a net\n", b"PK\x03\x04junk"])
def test_damaged_files_get_one_line(tmp_path, suffix, content):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged") as error:
        weights.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0.2, 0.9])
def test_truncated_files_get_one_line(tmp_path, suffix, keep):
    path = tmp_path / f"net{suffix}"
    state = {"weight": torch.rand(100, 100)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(WeightsError, match="damaged") as error:
        weights.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [{"epoch": 3}, torch.ones(2), [1, 2], {}])
def test_files_without_named_tensors_are_no_weights(tmp_path, content):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="holds no tensors"):
        weights.load(tmp_path / "net.pth")


def test_missing_and_unreadable_files(tmp_path, monkeypatch):
    with pytest.raises(WeightsMissingError, match="check the path"):
        weights.load(tmp_path / "net.pth")
    with pytest.raises(WeightsMissingError, match="check the path"):
        weights.load(tmp_path)

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "net.pth").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(WeightsError, match="Permission denied"):
        weights.load(tmp_path / "net.pth")


NO_NUMBERS = ["float8", "sparse", "meta"]


def test_load_into_copies_strictly_and_names_what_differs(tmp_path):
    path = tmp_path / "net.pth"
    net = nn.Linear(2, 3)
    torch.save({"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, path)
    weights.load_into(net, weights.load(path), net="Linear")
    assert torch.equal(net.weight, torch.ones(3, 2))

    torch.save({"weight": torch.ones(4, 2), "gain": torch.zeros(3)}, path)
    with pytest.raises(WeightsKeysError) as error:
        weights.load_into(net, weights.load(path), net="Linear")
    for part in ("1 missing (bias)", "1 unexpected (gain)", "weight (4, 2) for (3, 2)", "Linear"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("weight", "told"),
    [
        (torch.tensor([[1.0, torch.nan]]), "NaN or infinity"),
        (torch.tensor([[1.0, torch.inf]]), "NaN or infinity"),
        (torch.ones(1, 2, dtype=torch.float16) * torch.inf, "NaN or infinity"),
        (torch.ones(1, 2, dtype=torch.int64), "int64"),
        (torch.ones(1, 2, dtype=torch.bool), "bool"),
        (torch.ones(1, 2, dtype=torch.complex64), "complex64"),
        (torch.ones(1, 2).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.ones(1, 2).to_sparse(), "sparse_coo"),
        (torch.ones(1, 2, device="meta"), "meta"),
    ],
    ids=["nan", "inf", "half inf", "int64", "bool", "complex64", *NO_NUMBERS],
)
def test_load_into_refuses_what_is_no_finite_float(tmp_path, weight, told):
    path, net = tmp_path / "net.pth", nn.Linear(2, 1, bias=False)
    before = net.weight.clone()
    torch.save({"weight": weight}, path)
    with pytest.raises(WeightsError, match=told) as error:
        weights.load_into(net, weights.load(path), net="Linear")
    assert f"'{path}'" in str(error.value)
    assert "weight" in str(error.value)
    assert "\n" not in str(error.value)
    assert torch.equal(net.weight, before)


def test_load_into_takes_halves_and_counters(tmp_path):
    path, net = tmp_path / "net.safetensors", nn.BatchNorm1d(2)
    save_file(
        {key: value.half() if value.ndim else value for key, value in net.state_dict().items()},
        path,
    )
    weights.load_into(net, weights.load(path), net="BatchNorm1d")
    assert net.num_batches_tracked == 0


@pytest.mark.parametrize("kind", ["tensor subclass", "damaged"])
def test_refusals_do_not_quote_advice_to_load_unsafely(tmp_path, monkeypatch, kind):
    """Whatever exception torch gives its advice in."""
    path = tmp_path / "net.pth"
    torch.save({"weight": torch.ones(2)}, path)
    advice = "Weights only load failed. Re-running `torch.load` with `weights_only` set to `False`"

    def fail(*args, **kwargs):
        raise (RuntimeError if kind == "damaged" else pickle.UnpicklingError)(advice)

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(WeightsError) as error:
        weights.load(path)
    assert "weights_only" not in str(error.value)
    assert "torch.load" not in str(error.value)


def test_a_packages_files_are_checked_by_its_list(strangers, tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    (folder / "room").mkdir(parents=True)
    path = folder / "room" / "net.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    digest = weights.load(path).file.sha256
    (folder / "SHA256SUMS").write_text(f"{digest}  room/net.safetensors\n")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    weights.load(path)  # a list in a user's own folder binds nobody
    monkeypatch.setattr(weights.packages, "folders", lambda name: {"p": folder})
    with pytest.raises(WeightsHashError, match="install"):
        weights.load(path)
    content[-1] ^= 1
    path.write_bytes(content)
    assert weights.load(path).file.sha256 == digest


def test_a_pickle_of_another_kind_is_refused_without_torchs_warnings(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(print, protocol=4))
    with pytest.raises(weights.WeightsError, match="could run code"):
        weights.load(tmp_path / "evil.pth")
    assert not recwarn.list
