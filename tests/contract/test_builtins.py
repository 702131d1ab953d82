"""Every built-in plugin, made through its registry, keeps the contract of its kind.

A plugin may have its suite in another file, beside what else is tested of it: its line
``plugin = "KIND/NAME"`` counts.
"""

import os
import re
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from cbs_plugins.nets.dabnet import DABNet
from cbs_plugins.nets.espnetv2 import ESPNetv2
from cbs_plugins.nets.johnson import TransformerNet
from cbs_plugins.nets.swift import SwiftNet
from cbs_plugins.segmenters.timm import LinearHeadNet
from cbs_plugins.sources.sample import sample_file
from cbs_plugins.stylers.microast import Decoder, Encoder, Modulator
from PIL import Image

from cbs_core import testing
from cbs_core.choose.registry import REGISTRIES
from tests.media import make_clip, picture


def create(plugin: str, **params):
    kind, _, name = plugin.partition("/")
    return REGISTRIES[kind].create(name, **params)


@cache
def weights(net: str) -> Path:
    """A file of seeded weights, made once."""
    torch.manual_seed(0)
    path = Path(_folder.name) / f"{net}.pth"
    if net == "dabnet":
        tensors = DABNet(19).state_dict()
    elif net == "espnetv2":
        tensors = ESPNetv2(21).state_dict()
    elif net == "johnson":
        tensors = TransformerNet(8).state_dict()
    elif net == "swift":
        tensors = SwiftNet(12).state_dict()
    elif net == "timm":
        timm = pytest.importorskip("timm")
        tensors = LinearHeadNet(timm.create_model("resnet18", features_only=True), 21).state_dict()
    else:
        smp = pytest.importorskip("segmentation_models_pytorch")
        tensors = smp.create_model("fpn", "resnet18", encoder_weights=None, classes=21).state_dict()
    torch.save(tensors, path)
    return path


@cache
def microast() -> Path:
    """A folder of the four parts' seeded weights, made once."""
    torch.manual_seed(0)
    folder = Path(_folder.name) / "microast"
    folder.mkdir()
    parts = {
        "content_encoder": Encoder(),
        "style_encoder": Encoder(),
        "modulator": Modulator(),
        "decoder": Decoder(),
    }
    for name, net in parts.items():
        torch.save(net.state_dict(), folder / f"{name}.pth")
    return folder


_folder = TemporaryDirectory()


class TestDABNet(testing.SegmenterSuite):
    plugin = "segmenter/dabnet"

    def create(self):
        return create(self.plugin, weights=str(weights("dabnet")))


class TestESPNetv2(testing.SegmenterSuite):
    plugin = "segmenter/espnetv2"

    def create(self):
        return create(self.plugin, weights=str(weights("espnetv2")))


class TestSMP(testing.SegmenterSuite):
    plugin = "segmenter/smp"

    def create(self):
        return create(self.plugin, weights=str(weights("smp")), arch="fpn", encoder="resnet18")


class TestTimm(testing.SegmenterSuite):
    plugin = "segmenter/timm"

    def create(self):
        return create(self.plugin, weights=str(weights("timm")), arch="resnet18")


class TestJohnson(testing.RegionStylerSuite):
    plugin = "styler/johnson"

    def create(self):
        return create(self.plugin, weights=str(weights("johnson")))


class TestSwift(testing.RegionStylerSuite):
    plugin = "styler/swift"

    def create(self):
        return create(self.plugin, weights=str(weights("swift")))


class TestMicroAST(testing.StylerSuite):
    plugin = "styler/microast"

    def create(self):
        style = sample_file("cat")
        return create(self.plugin, style=str(style), style_size=64, weights=str(microast()))


class TestNoStyler(testing.StylerSuite):
    plugin = "styler/none"

    def create(self):
        return create(self.plugin)


class TestHard(testing.CompositorSuite):
    plugin = "compositor/hard"
    hard_edges = True

    def create(self):
        return create(self.plugin)


class TestFeather(testing.CompositorSuite):
    plugin = "compositor/feather"

    def create(self):
        return create(self.plugin)


class TestGuided(testing.CompositorSuite):
    plugin = "compositor/guided"
    linear = False

    def create(self):
        return create(self.plugin)


class TestImageSource(testing.SourceSuite):
    plugin = "source/image"

    def create(self, folder):
        Image.fromarray(picture(0)).save(folder / "a.png")
        return create(self.plugin, path=str(folder / "a.png"))

    def create_missing(self, folder):
        return create(self.plugin, path=str(folder / "no.png"))


class TestFolderSource(testing.SourceSuite):
    plugin = "source/folder"

    def create(self, folder):
        for index in range(3):
            Image.fromarray(picture(index)).save(folder / f"{index}.png")
        return create(self.plugin, path=str(folder))

    def create_missing(self, folder):
        return create(self.plugin, path=str(folder / "no"))


class TestVideoSource(testing.SourceSuite):
    plugin = "source/video"

    def create(self, folder):
        return create(self.plugin, path=str(make_clip(folder / "a.mp4", frames=5, gop=2)))

    def create_missing(self, folder):
        return create(self.plugin, path=str(folder / "no.mp4"))


class TestSampleSource(testing.SourceSuite):
    plugin = "source/sample"

    def create(self, folder):
        return create(self.plugin, path="sample:cat")

    def create_missing(self, folder):
        return create(self.plugin, path="sample:no")


class TestPanSource(testing.SourceSuite):
    plugin = "source/pan"

    def create(self, folder):
        Image.fromarray(picture(0)).save(folder / "a.png")
        return create(self.plugin, path=str(folder / "a.png"), frames=5)

    def create_missing(self, folder):
        return create(self.plugin, path=str(folder / "no.png"))


class TestImageSink(testing.SinkSuite):
    plugin = "sink/image"
    frames = 1

    def create(self, folder):
        return create(self.plugin, path=str(folder / "out.png"))


class TestFolderSink(testing.SinkSuite):
    plugin = "sink/folder"

    def create(self, folder):
        return create(self.plugin, path=str(folder / "out"))


class TestVideoSink(testing.SinkSuite):
    plugin = "sink/video"

    def create(self, folder):
        return create(self.plugin, path=str(folder / "out.mp4"))


class TestNullSink(testing.SinkSuite):
    plugin = "sink/null"
    writes_files = False

    def create(self, folder):
        return create(self.plugin)


class TestSerial(testing.SchedulerSuite):
    plugin = "scheduler/serial"

    def create(self, stream, meter):
        return create(self.plugin, stream=stream, meter=meter)


class TestPipeline(testing.SchedulerSuite):
    plugin = "scheduler/pipeline"

    @staticmethod
    def device():
        return torch.device("cpu")

    def create(self, stream, meter):
        return create(self.plugin, stream=stream, meter=meter)


@pytest.mark.cuda
class TestStreams(testing.SchedulerSuite):
    plugin = "scheduler/streams"

    def create(self, stream, meter):
        return create(self.plugin, stream=stream, meter=meter)


class TestAutoScheduler(testing.SchedulerSuite):
    plugin = "scheduler/auto"

    def create(self, stream, meter):
        return create(self.plugin, stream=stream, meter=meter)


class TestEager(testing.AcceleratorSuite):
    plugin = "accelerator/eager"

    def create(self):
        return create(self.plugin)


class TestAutoAccelerator(testing.AcceleratorSuite):
    plugin = "accelerator/auto"

    def create(self):
        return create(self.plugin)


class TestOpenVINO(testing.AcceleratorSuite):
    plugin = "accelerator/openvino"

    def create(self):
        return create(self.plugin)


class TestONNXRuntime(testing.AcceleratorSuite):
    plugin = "accelerator/onnxruntime"

    def create(self):
        for package in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(package)
        return create(self.plugin)


@pytest.mark.slow
class TestCompile(testing.AcceleratorSuite):
    plugin = "accelerator/compile"

    def create(self):
        if shutil.which(os.environ.get("CXX", "g++")) is None:
            pytest.skip("no C++ compiler")
        return create(self.plugin)


@pytest.mark.cuda
class TestCUDAGraph(testing.AcceleratorSuite):
    plugin = "accelerator/cudagraph"
    device = "cuda"
    tolerance = 1e-3  # convolutions there are in TF32, as torch has it

    def create(self):
        return create(self.plugin)


def test_no_built_in_plugin_is_forgotten():
    suites = "".join(file.read_text() for file in Path(__file__).parents[1].rglob("test_*.py"))
    covered = set(re.findall(r'^    plugin = "(.+)"$', suites, flags=re.MULTILINE))
    assert covered == {
        f"{kind}/{name}"
        for kind, registry in REGISTRIES.items()
        for name in registry.names()
        if registry.origin(name).startswith("class-based-styling ")
    }


@pytest.mark.parametrize("kind", ["source", "sink"])
def test_input_and_output_name_the_first_parameter(kind):
    registry = REGISTRIES[kind]
    for name in registry.names():
        assert testing.accepts_path_first(registry.load(name)), name
