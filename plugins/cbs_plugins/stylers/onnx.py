"""Any ONNX file that makes a picture of a picture, as a styler."""

import torch.nn.functional as F
from torch import Tensor

from cbs_core.contract.errors import WeightsMissingError
from cbs_plugins.formats.onnx import PictureNet, Runner
from cbs_plugins.formats.onnx_spec import read_spec


class ONNXStyler:
    """An ONNX net described by a YAML: ``(B,3,H,W)`` RGB in [0,1] -> the same size and range.

    It runs in ONNX Runtime, in the net's own precision, and waits for the device.

    Args:
        weights: the ONNX file.
        spec: its description (see `cbs_plugins.formats.onnx_spec`); None is ``WEIGHTS.yaml``, or
            the YAML of the same stem.

    Raises:
        ConfigError: no description, or a wrong one.
        PluginLoadError: ONNX Runtime is not installed.
        WeightsError: no ONNX file, or one of another kind than described.
    """

    def __init__(self, weights: str | None = None, spec: str | None = None) -> None:
        if weights is None:
            raise WeightsMissingError("no net is chosen: give styler.weights=FILE.onnx")
        runner = Runner(weights)
        self.weights_files = runner.files
        described = read_spec(spec, weights, needs="output_range")
        self.good_size = described.good_size
        self.net = PictureNet(runner, described, channels=3)

    def __call__(self, image: Tensor, /) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> the same size and range."""
        out = self.net(image)
        if out.shape[-2:] != image.shape[-2:]:
            out = F.interpolate(out, image.shape[-2:], mode="bilinear")
        if self.net.spec.color == "BGR":
            out = out.flip(1)
        low, high = self.net.spec.output_range
        return ((out - low) / (high - low)).clamp(0, 1)
