"""Each command of README and docs, with what a reader has: run, or at the least understood.

What needs no more than seconds is run on small files. Of others the configuration is composed, its
keys, plugins, parameters, classes and styles are looked up, and nothing is computed; the tests
named beside them run their like.
"""

import inspect
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from cbs_plugins.nets.johnson import TransformerNet
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from skimage import data

from cbs_core.augment.transforms import Restyle
from cbs_core.choose import presets, weights
from cbs_core.choose.registry import REGISTRIES, checked_parameters
from cbs_core.cli import augment, batch, evaluate, export, live, plugins, run, scene, train
from cbs_core.cli.app import DEBUG
from cbs_core.frame import routes
from cbs_core.run import settings
from cbs_core.words.vocabularies import VOCABULARIES
from tests.conftest import ROOT
from tests.media import make_clip

DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
)

ELSEWHERE = {"docs/write-a-plugin.md": "tests/packaging/test_write_a_plugin.py runs it as a whole"}
"""Documents whose commands follow each other."""

RUN = (
    "cbs-run input=street.mp4",
    "cbs-run input=photo.jpg",
    "cbs-run input=holiday/",
    "cbs-run styler=johnson styler.style=painting",
    "cbs-run --config-dir mine",
    "cbs-plugins",
)
"""What is run; a command that begins otherwise is understood alone, because of its time or its
extras: `make demo` in .ci/run, tests/integration/test_train*.py, test_export.py, test_scene.py."""

BEGINS = re.compile(r"cbs-\w+ .|make \w|pip |python ")

OTHERS = {
    "ray start ": "tests/integration/test_ray_cluster.py has a cluster of several nodes",
    "FROM ": "an image is built where there is Docker",
    "RUN ": "likewise; what it installs is an extra that test_documented_commands knows",
    "kill -9": "what tests/integration/test_killed.py does",
    "sudo ": "packages of the system, which its owner installs",
    "curl ": "tests/unit/test_live_server.py asks for the same",
}
"""What is typed and not tried here -> why."""

DRAWN = {"docs/architecture.md"}
"""Documents whose plain blocks are drawings."""

COMMANDS = {
    "cbs-batch": batch,
    "cbs-run": run,
    "cbs-train": train,
    "cbs-eval": evaluate,
    "cbs-export": export,
    "cbs-scene": scene,
    "cbs-augment": augment,
    "cbs-live": live,
}


def commands(document: str) -> list[str]:
    """Returns the commands of a document, in its fenced blocks and between backticks."""
    text = (ROOT / document).read_text()
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```", text, re.S | re.M)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    typed = [
        re.sub(r"^\$ ", "", line).split("  #")[0].strip()
        for language, block in blocks
        for line in block.splitlines()
        if language == "console" or (not language and BEGINS.match(line))
    ]
    typed += [span for span in re.findall(r"`([^`\n]+)`", rest) if BEGINS.match(span)]
    return list(dict.fromkeys(filter(None, typed)))


CONFIGURATIONS = ("config", "batch", "train", "eval", "export", "scene", "augment", "live", "named")

ALL = [
    pytest.param(command, id=f"{Path(document).stem}: {command[:60]}")
    for document in DOCUMENTS
    if document not in ELSEWHERE
    for command in commands(document)
]


def test_there_are_commands() -> None:
    assert len(ALL) > 30
    assert all(commands(document) for document in ELSEWHERE)


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if one not in DRAWN])
def test_what_is_typed_is_tried_or_known(document: str) -> None:
    """No command hides in a block or a span that `commands` does not look at."""
    text = (ROOT / document).read_text()
    fenced = r"^```([^\n]*)\n(.*?)^```"
    blocks = re.findall(fenced, text, re.S | re.M)
    assert not {"sh", "bash", "shell", "zsh", "text"} & {language for language, _ in blocks}
    typed = [line for language, block in blocks if not language for line in block.splitlines()]
    spans = re.findall(r"`([a-z][\w-]* [^`\n]+)`", re.sub(fenced, "", text, flags=re.S | re.M))
    typed += [span for span in spans if shutil.which(span.split()[0])]
    known = (*OTHERS, "#")
    assert not [one for one in typed if one and not BEGINS.match(one) and not one.startswith(known)]


OPTION = re.compile(r"(?:^|[ '])\+?([a-z][a-z_]*(?:\.[a-z_]+)?)=")
"""An option's key, at the beginning of a word that nothing but options stands before."""

OF_A_ROUTE = ("styler", "statistics"), ("styler", "where")


def option_keys(document: str) -> set[str]:
    """Returns the keys of a document's spans that hold options alone: `styler.where=mask`."""
    text = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(), flags=re.S | re.M)
    spans = [span for span in re.findall(r"`([^`\n]+)`", text) if OPTION.match(span)]
    return {key for span in spans for key in OPTION.findall(span)}


def is_known(key: str) -> bool:
    """Tells whether some command, plugin or recipe takes such a key."""
    kind, _, name = key.partition(".")
    if not name:
        known = {*REGISTRIES, "method", *inspect.signature(Restyle).parameters}
        return key in known.union(*(presets.keys(one) for one in CONFIGURATIONS))
    if kind == "recipe":
        files = (ROOT / "conf/recipe").rglob("*.yaml")
        return any(name in presets.loaded(file) for file in files)
    if kind == "hydra" or (kind, name) in OF_A_ROUTE:
        return True
    registry = REGISTRIES[kind]
    return any(registry.takes(one, name) for one in registry.names())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_options_that_are_told_are_there(document: str) -> None:
    assert not [key for key in sorted(option_keys(document)) if not is_known(key)]


def test_options_are_seen_and_a_slip_is() -> None:
    assert len(option_keys("README.md")) > 40
    assert not is_known("styler.whree")
    assert not is_known("lookahaed")
    assert not is_known("recipe.tonne")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what a reader of these documents has."""
    monkeypatch.chdir(tmp_path)
    for name in ("CBS_WEIGHTS", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CBS_TRACEBACK", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder in ("holiday", "photos", "more", "mine", "data/camvid", "weights/johnson"):
        Path(folder).mkdir(parents=True)
    astronaut = Image.fromarray(data.astronaut())
    photo = astronaut.crop((100, 0, 356, 256)).reduce(2)
    astronaut.resize((336, 224)).save("photo.jpg")  # select=320,200 is in it
    for file in ("painting.jpg", "holiday/1.jpg", "holiday/2.jpg", "photos/1.jpg"):
        photo.save(file)
    for file in ("street.mp4", "clip.mp4"):
        make_clip(Path(file), frames=3, width=384, height=256)  # select=320,200 is inside
    for file in ("truck.glb", "person.spz", "photos.csv", "FILE"):
        Path(file).touch()
    for file in ("my_style.pth", "weights/johnson/painting.pth"):
        torch.save(TransformerNet(8).state_dict(), file)
    job = "defaults: [config, _self_]\nroutes: {car: wave}\n"
    Path("mine/job.yaml").write_text(f"{job}input: photo.jpg\n")
    Path("studio.yaml").write_text(job)  # tests/unit/test_live_studio.py has the studio's own
    return tmp_path


@pytest.mark.parametrize("command", ALL)
def test_it_works(command: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *words = shlex.split(command)
    for file in re.findall(r"weights=(\S+/\S+)", command):  # that a training made
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    if command == "source .venv/bin/activate":
        return  # the shell's own; make demo makes that folder
    if name == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
        assert words[0] in targets
    elif name in ("pip", "python") and "install" in words:
        extras = re.findall(r"^class-based-styling\[(\w+)\]$", words[-1])
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert {*extras} <= {*project["optional-dependencies"], "NAME"}
    elif name == "python":
        assert words[0] == "-m"
        assert find_spec(words[1])
    elif name == "cbs-doctor":
        assert not words  # tests/unit/test_doctor.py runs it
    elif name == "cbs-plugins":
        monkeypatch.setattr("sys.argv", [name, *words])
        if words[0] == "show":
            with pytest.raises(SystemExit, match=r"^0$"):
                plugins.main()
        else:
            plugins.main()
    elif command.startswith(RUN) and "segmenter=" not in command:
        assert call(monkeypatch, name, run.run, [*words, "accelerator=eager", "quiet=true"]) == 0
    elif name in COMMANDS:
        assert call(monkeypatch, name, understood(name), words) == 0
    else:
        pytest.fail(f"nothing here knows how to try '{command}'")


def call(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    task: Callable[[Mapping[str, object]], int],
    words: list[str],
) -> int:
    """Runs a command in this process; returns its exit code."""
    monkeypatch.setenv(DEBUG, "")
    monkeypatch.setattr(COMMANDS[name], "run", task)
    monkeypatch.setattr("sys.argv", [name, *words])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) if "--help" not in words else suppress(SystemExit) as ended:
        COMMANDS[name].main()
    GlobalHydra.instance().clear()
    return int(ended.value.code or 0) if ended else 0


def understood(name: str) -> Callable[[Mapping[str, object]], int]:
    """Returns a task that looks up all that a configuration names, and computes nothing."""

    def look_up(config: Mapping[str, object]) -> int:
        for kind in ("segmenter", "styler", "compositor", "source", "sink", "accelerator"):
            section = config.get(kind)
            if not isinstance(section, Mapping):
                continue
            params = {k: v for k, v in section.items() if k not in ("name", "where", "statistics")}
            if not isinstance(params.get("path", ""), str):  # none, or a batch's list
                params["path"] = "a file in the run folder"
            target = REGISTRIES[kind].load(str(section["name"]))
            checked_parameters(target, params, owner=str(section["name"]))
        if name == "cbs-run":
            look = settings.parse(config).look
            if look.segmenter.name == "smp":  # of others the weights say what classes there are
                _look_up_routes(look)
        return 0

    return look_up


def _look_up_routes(look: settings.Look) -> None:
    classes = tuple(VOCABULARIES["voc"])
    for route in routes.parse(
        look.routes, classes=classes, styler=look.styler.name, params=look.styler.params
    ):
        if route.styler == "johnson" and not route.params.get("weights"):
            style = str(route.params.get("style") or "starry_night")
            assert weights.find("johnson", style, flag="styler.weights").is_file()
