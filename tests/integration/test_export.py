"""``cbs-export`` from the command line to pictures that its files style."""

import subprocess
import sys
from pathlib import Path

import cbs_plugins
import pytest
import torch
import torch.nn.functional as F
import yaml
from cbs_plugins.nets.dabnet import DABNet
from cbs_plugins.nets.johnson import TransformerNet
from cbs_plugins.nets.swift import SwiftNet
from safetensors.torch import save_file
from torch import nn

from cbs_core.choose import registry
from cbs_core.cli import export as command
from cbs_core.contract.errors import ConfigError, PluginContractError, PluginLoadError, SinkError
from tests.disks import files_up_to

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

STYLES = Path(cbs_plugins.__path__[0]) / "weights/johnson"
SIZES = [(1, 1), (7, 40), (64, 96), (65, 131), (96, 203)]


@pytest.fixture
def johnson(tmp_path) -> Path:
    torch.manual_seed(0)
    torch.save(TransformerNet(8).state_dict(), tmp_path / "johnson.pth")
    return tmp_path / "johnson.pth"


def cbs_export(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "cbs_core.cli.export", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def check(kind: str, plugin: nn.Module, folder: Path) -> None:
    """Exports a plugin and compares the file, through the onnx plugin, with it."""
    output = folder / "net.onnx"
    difference, scale = command.export(plugin, output, what=kind)
    assert 0 < difference <= 1e-3 * scale
    loaded = registry.REGISTRIES[kind].create("onnx", weights=str(output))
    assert getattr(loaded, "classes", None) == getattr(plugin, "classes", None)
    for height, width in SIZES:
        image = torch.rand(1, 3, height, width)
        with torch.inference_mode():
            have, want = loaded(image), plugin.eval()(image)
        if kind == "segmenter" and min(height, width) < command.MIN_SIDE:
            assert have.isfinite().all()  # padded in another way than the net's own
        elif height * width == 1:
            # Of one colour: instance normalisation divides rounding errors by rounding errors.
            assert have.shape == want.shape
            assert have.isfinite().all()
        else:
            assert have.shape == want.shape
            assert (have - want).abs().max() <= 1e-3 * max(1, want.abs().max())


@pytest.mark.shared
@pytest.mark.parametrize("width", [32, 16, 8])
def test_johnson_of_three_widths(shared, tmp_path, width):
    weights = shared / f"weights/johnson/mosaic_width{width}.pth"
    if width == 32:
        torch.manual_seed(0)
        net = TransformerNet(32)
        net.deconv3.conv2d.weight.data.mul_(100)  # grey noise, of which clamping hides nothing
        net.deconv3.conv2d.bias.data.fill_(128)
        weights = tmp_path / "johnson.pth"
        torch.save(net.state_dict(), weights)
    check("styler", registry.stylers.create("johnson", weights=str(weights)), tmp_path)


@pytest.mark.parametrize("style", sorted(path.stem for path in STYLES.glob("*.safetensors")))
def test_every_style_of_the_package(tmp_path, style):
    check("styler", registry.stylers.create("johnson", style=style), tmp_path)


def test_a_net_that_pads_more_says_so(tmp_path):
    torch.manual_seed(0)
    header = {"net": "SwiftNet"}
    net = SwiftNet(8)
    net.last.weight.data.mul_(100)
    net.last.bias.data.fill_(128)
    save_file(net.state_dict(), tmp_path / "swift.safetensors", header)
    styler = registry.stylers.create("swift", weights=str(tmp_path / "swift.safetensors"))
    check("styler", styler, tmp_path)
    assert yaml.safe_load((tmp_path / "net.onnx.yaml").read_text())["min_side"] == 16


class PadsMore(nn.Module):
    """A styler that does not say which pictures it pads."""

    def forward(self, image):
        height, width = image.shape[-2:]
        if min(height, width) <= 16:
            image = F.pad(image, (0, 16, 0, 16), mode="replicate")
        blurred = F.avg_pool2d(F.pad(image, (16, 16, 16, 16), mode="reflect"), 33, 1)
        return blurred[..., :height, :width]


def test_a_graph_that_does_not_run_is_told(tmp_path):
    with pytest.raises(PluginContractError, match=r"does not run on 8x9 pixels .* min_side$"):
        command.export(PadsMore(), tmp_path / "net.onnx", what="styler 'mine'")
    assert not list(tmp_path.iterdir())


@pytest.mark.shared
def test_dabnet(shared, tmp_path):
    weights = shared / "weights/dabnet/dabnet_cityscapes.pth"
    check("segmenter", registry.segmenters.create("dabnet", weights=str(weights)), tmp_path)


@pytest.mark.shared
def test_microast(shared, tmp_path):
    style = shared / "data/styles/wave.jpg"
    options = {"style": str(style), "weights": str(shared / "weights/microast"), "strength": 0.5}
    check("styler", registry.stylers.create("microast", **options), tmp_path)


@pytest.mark.parametrize("arch", ["unet", "fpn", "deeplabv3plus"])
def test_smp(tmp_path, arch):
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    net = smp.create_model(arch, "resnet18", encoder_weights=None, classes=11)
    torch.save(net.state_dict(), tmp_path / "smp.pth")
    options = {"weights": str(tmp_path / "smp.pth"), "arch": arch, "encoder": "resnet18"}
    check("segmenter", registry.segmenters.create("smp", **options), tmp_path)


def test_from_the_command_line(tmp_path, johnson):
    done = cbs_export(
        "styler=johnson", f"styler.weights={johnson}", "output=a b/x.onnx", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    used, written = done.stdout.splitlines()
    assert used == f"styler johnson · weights: {johnson}"
    assert written.startswith("a b/x.onnx: max difference from torch ")
    assert "allowed: 1.0e-03" in done.stdout
    assert {path.name for path in (tmp_path / "a b").iterdir()} == {"x.onnx", "x.onnx.yaml"}
    assert yaml.safe_load((tmp_path / "a b/x.onnx.yaml").read_text()) == {
        "layout": "NCHW",
        "color": "RGB",
        "range": [0, 1],
        "min_side": 8,
        "output_range": [0, 1],
        "good_size": [512, 512],
    }
    assert registry.stylers.create("onnx", weights=str(tmp_path / "a b/x.onnx")).good_size == (
        512,
        512,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b", "johnson.pth"]


def test_help_has_its_own_name_and_imports_no_torch(tmp_path):
    code = (
        "import sys, cbs_core.cli.export as e; sys.argv = ['cbs-export', '--help']\n"
        "try:\n    e.main()\n"
        "finally:\n    print([n for n in ('torch', 'onnx', 'cbs_plugins') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("cbs-export: write a segmenter or a styler as ONNX")
    assert done.stdout.rstrip().endswith("[]")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["output=x.onnx"], "say segmenter=NAME or styler=NAME"),
        (["styler=johnson", "styler.weights=J"], "no value for output: say output="),
        (["styler=none", "output=x.onnx"], "is no torch module"),
        (["styler=johnson", "styler.weights=J", "output=x.pt"], "does not end in .onnx"),
        (["styler=johnsen", "output=x.onnx"], "did you mean 'johnson'"),
        (["styler=johnson", "styler.weights=no.pth", "output=x.onnx"], "no weight file 'no.pth'"),
        (["styler=johnson", "segmenter=dabnet", "output=x.onnx"], "not both"),
        (["styler=johnson", "styler.weights=J", "output=J/x.onnx"], "cannot write"),
    ],
)
def test_bad_input_is_one_line(tmp_path, johnson, arguments, message):
    done = cbs_export(*(a.replace("J", str(johnson)) for a in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("cbs-export: error: ")
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["johnson.pth"]


class Fickle(nn.Module):
    """Gives another result to the exporter than to anybody else."""

    def forward(self, image):
        return image * (0.5 if torch.compiler.is_exporting() else 1.0)


class Unexportable(nn.Module):
    def forward(self, image):
        for _ in range(int(image.sum())):
            image = image + 1
        return image


@pytest.mark.parametrize(
    ("plugin", "message"),
    [(Fickle(), "differs from torch by"), (Unexportable(), "torch cannot export the test")],
)
def test_what_fails_leaves_nothing_and_keeps_what_there_was(tmp_path, plugin, message):
    (tmp_path / "x.onnx").write_text("before")
    with pytest.raises(PluginContractError, match=message) as error:
        command.export(plugin, tmp_path / "x.onnx", what="test")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    assert (tmp_path / "x.onnx").read_text() == "before"


def test_only_modules_can_be_exported(tmp_path):
    with pytest.raises(ConfigError, match="the test is no torch module"):
        command.export(lambda image: image, tmp_path / "x.onnx", what="test")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot write"):
        command.export(DABNet(19), tmp_path / "file/x.onnx", what="test")


def test_a_full_disk_is_no_fault_of_the_net(tmp_path):
    with files_up_to(500), pytest.raises(SinkError, match=r"x.onnx': File too large; make room"):
        command.export(TransformerNet(8), tmp_path / "x.onnx", what="test")
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = {"styler": {"name": "johnson"}, "segmenter": None, "output": "x.onnx"}
    with pytest.raises(PluginLoadError, match=r"pip install 'class-based-styling\[onnx\]'"):
        command.run(config)
