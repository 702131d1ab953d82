"""Broken strangers: not chosen, they cost nothing; chosen, they get one line with their name."""

import re

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.integration.command import with_net
from tests.packaging.environments import new_environment, wheel

STRANGERS = {
    # distribution: (kind, plugin, source)
    "cbs-raiser": ("styler", "raiser", "raise RuntimeError('no licence\\nserver')"),
    "cbs-leaver": ("styler", "leaver", "import sys; sys.exit('goodbye')"),
    "cbs-needy": ("styler", "needy", "import a_package_that_is_not_there"),
    "cbs-hollow": ("styler", "hollow", ""),
    "cbs-thief": ("styler", "johnson", "class Plugin: __call__ = lambda self, image: image"),
    "cbs-twin-one": ("styler", "twin", "class Plugin: __call__ = lambda self, image: image"),
    "cbs-twin-two": ("styler", "twin", "class Plugin: __call__ = lambda self, image: image"),
    "cbs-cropper": (
        "styler",
        "cropper",
        "class Plugin: __call__ = lambda self, image: image[..., 1:]",
    ),
    "cbs-numpy": (
        "styler",
        "array",
        "class Plugin: __call__ = lambda self, image: image.numpy()",
    ),
    "cbs-divider": ("styler", "divider", "class Plugin: __call__ = lambda self, image: 1 / 0"),
    "cbs-fragile": (
        "styler",
        "fragile",
        "class Plugin:\n def __init__(self): raise OSError('no such brush')",
    ),
    "cbs-classless": (
        "segmenter",
        "classless",
        "class Plugin: __call__ = lambda self, image: image",
    ),
    "cbs-narrow": (
        "segmenter",
        "narrow",
        "class Plugin:\n classes = ('person', 'sky')\n __call__ = lambda self, image: image",
    ),
    "cbs-plain": (
        "styler",
        "plain",
        "class Plugin:\n"
        " def __init__(self, level=0.5): self.level = level\n"
        " def __call__(self, image): return image * 0 + self.level\n",
    ),
}


def put(environment, distribution, kind, plugin, source):
    """Puts a package into an environment, as installing its wheel would."""
    package = distribution.replace("-", "_")
    site = environment.site_packages
    (site / package).mkdir()
    (site / package / "__init__.py").write_text(source)
    metadata = site / f"{package}-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1\n"
    )
    (metadata / "entry_points.txt").write_text(f"[cbs.{kind}s]\n{plugin} = {package}:Plugin\n")


@pytest.fixture(scope="module")
def crowded(wheels, weights, tmp_path_factory):
    """The project, cbs-pastel and every broken stranger at once."""
    environment = new_environment(tmp_path_factory.mktemp("crowded"))
    environment.install(wheel(wheels, "class_based_styling"), wheel(wheels, "cbs_pastel"))
    environment.variables["CBS_WEIGHTS"] = str(weights)
    for distribution, (kind, plugin, source) in STRANGERS.items():
        put(environment, distribution, kind, plugin, source)
    # Presets of a stranger may not displace the project's own.
    conf = environment.site_packages / "cbs_raiser" / "conf"
    (conf / "segmenter").mkdir(parents=True)
    (conf / "config.yaml").write_text("stolen: true\n")
    (conf / "segmenter" / "dabnet.yaml").write_text("name: classless\n")
    (conf / "segmenter" / "unreadable.yaml").write_text("name: [\n")
    return environment


@pytest.fixture
def restyle(crowded, tmp_path):
    """Runs `cbs-run` on a small picture; further arguments go before the output's."""
    Image.fromarray(np.full((16, 24, 3), 200, np.uint8)).save(tmp_path / "in.png")

    def run(*arguments):
        return crowded.run(
            "cbs-run",
            "input=in.png",
            "output=out/out.png",
            "routes=[person]",
            "quiet=true",
            "device=cpu",
            *with_net(arguments),
            cwd=tmp_path,
        )

    return run


def test_looking_around_is_not_disturbed(crowded):
    listed = crowded.run("cbs-plugins", "list", check=True).stdout
    for distribution, (kind, plugin, _) in STRANGERS.items():
        assert re.search(rf"^{kind} +{plugin} .*{distribution} 0\.1", listed, re.MULTILINE)
    shown = crowded.run("cbs-run", "--help", check=True)
    assert "raiser" in shown.stdout
    assert not shown.stderr


def test_a_strangers_preset_cannot_displace_ours(crowded):
    done = crowded.run("cbs-run", "segmenter=dabnet", "--cfg", "job", check=True)
    config = yaml.safe_load(done.stdout)
    assert config["segmenter"]["name"] == "dabnet"
    assert "stolen" not in config


def test_a_run_without_them_works(restyle, tmp_path):
    done = restyle("styler=pastel")
    assert done.returncode == 0
    assert not done.stderr
    assert (tmp_path / "out" / "out.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("styler=raiser", "cbs-raiser 0.1 .*RuntimeError: no licence server.* uninstall"),
        ("styler=leaver", "cbs-leaver 0.1 .*SystemExit: goodbye.* uninstall"),
        ("styler=needy", "cbs-needy 0.1 .*No module named 'a_package_that_is_not_there'"),
        ("styler=hollow", "cbs-hollow 0.1 .*no attribute 'Plugin'"),
        ("styler=johnson", "class-based-styling .*cbs-thief 0.1.*uninstall"),
        ("styler=twin", "cbs-twin-one 0.1 and cbs-twin-two 0.1.*uninstall"),
        (
            "styler=cropper",
            r"cbs-cropper 0.1 .*\(1, 3, 16, 23\) where \(1, 3, 16, 24\) is due",
        ),
        ("styler=array", "cbs-numpy 0.1 .*ndarray where a tensor is due"),
        ("styler=divider", "cbs-divider 0.1 .*ZeroDivisionError"),
        ("styler=fragile", "cbs-fragile 0.1 .*OSError: no such brush"),
        ("styler=none segmenter=classless", "cbs-classless 0.1 .*`classes`"),
        (
            "styler=plain segmenter=narrow",
            r"cbs-narrow 0.1 .*\(1, 3, 16, 24\) where \(1, 2, h, w\) is due",
        ),
        ("styler=pastel segmenter=unreadable", "unreadable.yaml"),
    ],
)
def test_a_chosen_one_gets_one_line(restyle, tmp_path, arguments, words):
    done = restyle(*arguments.split())
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(rf"cbs-run: error: .*{words}.*\n", done.stderr), done.stderr
    assert "Traceback" not in done.stdout
    assert not list(tmp_path.rglob("*out.png*")), "no half-written output may be left"


def test_a_plugin_without_a_preset_takes_parameters(restyle, tmp_path):
    done = restyle("styler=plain", "+styler.level=0.25")
    assert done.returncode == 0, done.stderr
    assert (np.asarray(Image.open(tmp_path / "out" / "out.png")) == 64).all()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("styler.level=0.25", r"unknown key 'styler.level'.*\+styler.level="),
        ("+styler.lebel=0.25", "no parameter 'lebel'; did you mean 'level'.*it takes: level"),
    ],
)
def test_a_mistyped_parameter_of_it_is_told(restyle, argument, words):
    done = restyle("styler=plain", argument)
    assert done.returncode == 2
    assert re.fullmatch(rf"cbs-run: error: .*{words}.*\n", done.stderr), done.stderr
