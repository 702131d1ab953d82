"""Any ONNX file that gives a score a class and pixel, as a segmenter."""

from torch import Tensor

from cbs_core.contract.errors import WeightsMissingError
from cbs_plugins.formats.onnx import PictureNet, Runner
from cbs_plugins.formats.onnx_spec import read_spec


class ONNXSegmenter:
    """An ONNX net described by a YAML: ``(B,3,H,W)`` RGB in [0,1] -> logits ``(B,K,h,w)``.

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
            raise WeightsMissingError("no net is chosen: give segmenter.weights=FILE.onnx")
        runner = Runner(weights)
        self.weights_files = runner.files
        described = read_spec(spec, weights, needs="classes")
        self.classes = described.classes
        self.good_size = described.good_size
        self.net = PictureNet(runner, described, channels=len(self.classes))

    def __call__(self, image: Tensor, /) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> logits ``(B,K,h,w)``."""
        return self.net(image)
