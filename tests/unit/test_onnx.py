"""Any ONNX file: nets of one matrix multiplication a pixel, whose result is known by hand."""

import hashlib
import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from cbs_plugins.formats import onnx as formats_onnx
from cbs_plugins.formats.onnx import Runner
from cbs_plugins.formats.onnx_files import files_of
from cbs_plugins.segmenters.onnx import ONNXSegmenter
from cbs_plugins.stylers.onnx import ONNXStyler

from cbs_core.contract.errors import (
    CbsError,
    ConfigError,
    PluginContractError,
    PluginLoadError,
    WeightsError,
    WeightsMissingError,
)
from cbs_core.contract.interfaces import HasWeights, Segmenter, Styler
from cbs_core.machine.memory import MemoryLimitError
from tests.endless import endless

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SWAP = torch.tensor([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
"""Exchanges the first and the last channel."""

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{now}: &{now} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, now in zip("abcdefgh", "bcdefghi", strict=True)
)

PLAIN = {"layout": "NCHW", "color": "RGB", "range": [0, 1]}


def save_net(path: Path, matrix, *, shape=("b", 3, "h", "w"), stride=1, dtype=torch.float32):
    """A net that multiplies each pixel's channels by a matrix, after pooling by ``stride``.

    ``shape`` tells its layout: the 3 is the channels' axis.
    """
    outputs, channels = matrix.shape
    nhwc = shape[3] == channels
    kind = onnx.TensorProto.FLOAT if dtype == torch.float32 else onnx.TensorProto.FLOAT16
    square = [stride, stride]
    nodes = [
        onnx.helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=square, strides=square),
        onnx.helper.make_node("Conv", ["p", "matrix"], ["y"]),
    ]
    if nhwc:
        nodes.insert(0, onnx.helper.make_node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2]))
        nodes.append(onnx.helper.make_node("Transpose", ["y"], ["out"], perm=[0, 2, 3, 1]))
    else:
        nodes[0].input[0], nodes[-1].output[0] = "image", "out"
    weight = onnx.numpy_helper.from_array(matrix[..., None, None].to(dtype).numpy(), "matrix")
    sides = ("b", "oh", "ow", outputs) if nhwc else ("b", outputs, "oh", "ow")
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [onnx.helper.make_tensor_value_info("image", kind, shape)],
        [onnx.helper.make_tensor_value_info("out", kind, sides)],
        [weight],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return str(path)


def describe(path: str, **spec) -> str:
    Path(f"{path}.yaml").write_text(yaml.safe_dump(spec))
    return path


def styler(tmp_path, matrix=SWAP, *, net=None, **spec) -> ONNXStyler:
    path = save_net(tmp_path / "net.onnx", matrix, **net or {})
    return ONNXStyler(describe(path, **PLAIN | {"output_range": [0, 1]} | spec))


def segmenter(tmp_path, matrix, *, net=None, **spec) -> ONNXSegmenter:
    path = save_net(tmp_path / "net.onnx", matrix, **net or {})
    return ONNXSegmenter(describe(path, **PLAIN | spec))


@pytest.fixture
def image():
    return torch.rand(2, 3, 30, 44, generator=torch.Generator().manual_seed(0))


def test_the_net_is_run(tmp_path, image):
    net = styler(tmp_path)
    assert isinstance(net, Styler)
    assert isinstance(net, HasWeights)
    torch.testing.assert_close(net(image), image.flip(1))
    digest = hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()
    assert net.weights_files[0].sha256 == digest


@pytest.mark.parametrize("shape", [("b", "h", "w", 3), (1, 30, 44, 3), (1, 20, 20, 3)])
def test_nhwc_and_a_batch_of_one(tmp_path, image, shape):
    styled = styler(tmp_path, layout="NHWC", net={"shape": shape})(image)
    assert styled.shape == image.shape
    if 20 not in shape:
        torch.testing.assert_close(styled, image.flip(1))


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-1, 1)])
def test_ranges(tmp_path, image, low, high):
    swapped = styler(tmp_path, range=[low, high], output_range=[low, high])(image)
    torch.testing.assert_close(swapped, image.flip(1))
    # Black stays at the input's black, so the output shows what the net was given.
    seen = styler(tmp_path, torch.eye(3), range=[low, high], output_range=[-1000, 1000])(image)
    torch.testing.assert_close(seen * 2000 - 1000, image * (high - low) + low, atol=1e-3, rtol=0)


def test_mean_and_std_are_in_the_nets_own_order(tmp_path, image):
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    seen = segmenter(
        tmp_path, torch.eye(3), color="BGR", mean=mean, std=std, classes=["a", "b", "c"]
    )(image)
    want = (image.flip(1) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(seen, want)


def test_bgr_goes_in_and_comes_out(tmp_path, image):
    torch.testing.assert_close(styler(tmp_path, torch.eye(3), color="BGR")(image), image)


def test_half_precision(tmp_path, image):
    styled = styler(tmp_path, net={"dtype": torch.float16})(image)
    assert styled.dtype == torch.float32
    torch.testing.assert_close(styled, image.flip(1), atol=1e-3, rtol=0)


def test_a_multiple_is_padded_and_cut_off_again(tmp_path):
    image = torch.rand(1, 3, 30, 41)
    padded = F.pad(image, (0, 3, 0, 2), mode="replicate")
    pooled = F.avg_pool2d(padded, 4)
    want = F.interpolate(pooled, padded.shape[-2:], mode="bilinear")[..., :30, :41]
    logits = segmenter(
        tmp_path, torch.eye(3), multiple=4, classes=["a", "b", "c"], net={"stride": 4}
    )(image)
    torch.testing.assert_close(logits, want)


def test_without_padding_the_logits_stay_small(tmp_path):
    logits = segmenter(
        tmp_path, torch.eye(3), multiple=4, classes=["a", "b", "c"], net={"stride": 4}
    )(torch.rand(1, 3, 32, 40))
    assert logits.shape == (1, 3, 8, 10)


def test_min_side(tmp_path):
    net = styler(tmp_path, min_side=8, net={"shape": ("b", 3, "h", "w")})
    assert net(torch.rand(1, 3, 1, 2)).shape == (1, 3, 1, 2)


def test_a_fixed_size_comes_from_the_yaml_or_the_net(tmp_path, image):
    said = segmenter(tmp_path, torch.eye(3), classes=["a", "b", "c"], size=[16, 24])
    assert said(image).shape == (2, 3, 16, 24)
    own = segmenter(
        tmp_path, torch.eye(3), classes=["a", "b", "c"], net={"shape": ("b", 3, 16, 24)}
    )
    assert torch.equal(own(image), said(image))
    with pytest.raises(ConfigError, match=r"takes 16 x 24 pixels.*size: \[24, 16\]: leave that"):
        segmenter(
            tmp_path,
            torch.eye(3),
            classes=["a", "b", "c"],
            size=[24, 16],
            net={"shape": ("b", 3, 16, 24)},
        )


def test_classes_are_names_or_a_vocabulary(tmp_path):
    net = segmenter(tmp_path, torch.rand(2, 3), classes=["road", "car"])
    assert isinstance(net, Segmenter)
    assert net.classes == ("road", "car")
    assert len(segmenter(tmp_path, torch.rand(19, 3), classes="cityscapes").classes) == 19


def test_the_yaml_may_have_the_stem_or_any_name(tmp_path, image):
    path = save_net(tmp_path / "net.onnx", SWAP)
    text = yaml.safe_dump(PLAIN | {"output_range": [0, 1]})
    (tmp_path / "other.yaml").write_text(text)
    assert ONNXStyler(path, str(tmp_path / "other.yaml"))(image).shape == image.shape
    (tmp_path / "net.yaml").write_text(text)
    assert ONNXStyler(path)(image).shape == image.shape


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"layuot": "NCHW"}, "unknown key 'layuot'; did you mean 'layout'"),
        ({"layout": "CHWN"}, "layout: CHWN is wrong: give NCHW or NHWC"),
        ({"color": "rgb"}, "color: rgb is wrong: give RGB or BGR"),
        ({"range": [255, 0]}, "range: .* is wrong: give black and white"),
        ({"range": "big"}, "range: big is wrong"),
        ({"mean": [1, 2]}, "mean: .* is wrong: give three numbers"),
        ({"mean": [1, 2, float("nan")]}, "mean: .* is wrong: give three numbers"),
        ({"std": [1, 1, 0]}, "std: .* is wrong: give three numbers above 0"),
        ({"size": [512]}, r"size: .* is wrong: give \[HEIGHT, WIDTH\]"),
        ({"multiple": 0}, "multiple: 0 is wrong"),
        ({"multiple": True}, "multiple: True is wrong"),
        ({"output_range": None}, "output_range: None is wrong"),
        ({"classes": ["a", "a"]}, "classes: .* is wrong: give a list of names, each once"),
        ({"classes": "cityscape"}, "unknown vocabulary 'cityscape'"),
    ],
)
def test_wrong_descriptions(tmp_path, spec, message):
    with pytest.raises(ConfigError, match=message):
        styler(tmp_path, **spec)


@pytest.mark.parametrize("key", ["layout", "color", "range", "output_range"])
def test_a_description_is_whole(tmp_path, key):
    spec = PLAIN | {"output_range": [0, 1]}
    del spec[key]
    with pytest.raises(ConfigError, match=f"does not tell {key}: add a line such as {key}: "):
        ONNXStyler(describe(save_net(tmp_path / "net.onnx", SWAP), **spec))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no description '.*net\.onnx\.yaml'.*layout, color, range and classes"),
        ("layout: [", "is no YAML"),
        ("- layout", "no mapping"),
        ("", "no mapping"),
        ("!!python/object/apply:os.system ['true']", "is no YAML"),
        (BOMB, "stands for more than"),
        ("classes: &a [*a]", "alias of what it lies in"),
        (f"classes: {'[' * 5000}", "deep|nesting depth"),
        (f"size: {'9' * 5000}", "is no YAML"),
        ("size: 2001-99-99", "is no YAML"),
        ("? [a]\n: b", "is no YAML"),
        (f"size: {'x' * 70_000}", "more than 65536 bytes"),
    ],
)
def test_unreadable_descriptions(tmp_path, content, message):
    path = save_net(tmp_path / "net.onnx", SWAP)
    if content is not None:
        (tmp_path / "net.onnx.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        ONNXSegmenter(path)
    assert "\n" not in str(error.value)


def test_a_pipe_for_a_description_is_not_waited_for(tmp_path):
    path = save_net(tmp_path / "net.onnx", SWAP)
    os.mkfifo(tmp_path / "net.onnx.yaml")
    with pytest.raises(ConfigError, match=r"net\.onnx\.yaml' is no file"):
        ONNXSegmenter(path)


@pytest.mark.parametrize(
    ("shape", "layout", "message"),
    [
        (("b", 3, "h", "w"), "NHWC", "which is not layout: NHWC as its YAML says but NCHW"),
        (("b", "c", "h", "w"), "NHWC", "its output .* which is not layout: NHWC"),
        (("b", "h", "w", 3), "NCHW", "which is not layout: NCHW as its YAML says but NHWC"),
        ((1, 3, 64, 64), "NHWC", "which is not layout: NHWC"),
    ],
)
def test_the_wrong_layout(tmp_path, shape, layout, message):
    with pytest.raises(WeightsError, match=message):
        styler(tmp_path, layout=layout, net={"shape": shape})


def test_the_wrong_channel_count(tmp_path):
    with pytest.raises(WeightsError, match="which has 4 channels in layout NCHW where 3 are due"):
        styler(tmp_path, torch.rand(3, 4), net={"shape": ("b", 4, "h", "w")})
    with pytest.raises(WeightsError, match=r"its output .* has 5 channels .* where 2 are due"):
        segmenter(tmp_path, torch.rand(5, 3), classes=["road", "car"])


def test_what_shows_only_on_a_picture(tmp_path, image):
    with pytest.raises(PluginContractError, match="failed on an input of") as error:
        styler(tmp_path, net={"shape": (3, 3, "h", "w")})(image)
    assert "\n" not in str(error.value)


def test_no_onnx_file(tmp_path):
    with pytest.raises(WeightsMissingError, match=r"styler\.weights=FILE\.onnx"):
        ONNXStyler()
    with pytest.raises(WeightsMissingError, match=r"segmenter\.weights=FILE\.onnx"):
        ONNXSegmenter()
    with pytest.raises(WeightsMissingError, match="no ONNX file"):
        ONNXStyler(str(tmp_path / "no.onnx"))
    (tmp_path / "text.onnx").write_text("words")
    with pytest.raises(CbsError, match="is no ONNX file") as error:
        ONNXStyler(str(tmp_path / "text.onnx"))
    assert "\n" not in str(error.value)


def test_another_device_is_never_the_cpu_in_silence(tmp_path):
    net = Runner(save_net(tmp_path / "net.onnx", SWAP))
    with pytest.raises(PluginLoadError, match=r"cannot run on meta.*say device=cpu"):
        net(torch.rand(1, 3, 4, 4, device="meta"))


def test_without_onnxruntime_the_line_names_the_extra(tmp_path, monkeypatch):
    path = save_net(tmp_path / "net.onnx", SWAP)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(PluginLoadError, match=r"pip install 'class-based-styling\[onnx\]'"):
        ONNXStyler(path)


def test_external_data_is_told_with_its_own_digest(tmp_path):
    """Two graphs that differ in their data alone are told apart."""
    told = []
    for name, matrix in (("a", SWAP), ("b", torch.eye(3))):
        folder = tmp_path / name
        folder.mkdir()
        path = save_net(folder / "net.onnx", matrix)
        model = onnx.load(path)
        onnx.save(model, path, save_as_external_data=True, location="n" * 130, size_threshold=0)
        runner = Runner(path)
        assert [file.path.name for file in runner.files] == ["net.onnx", "n" * 130]
        for file in runner.files:
            assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
        told.append([file.sha256 for file in runner.files])
    assert told[0][0] == told[1][0]
    assert told[0][1] != told[1][1]


def _value_first(graph: bytes) -> bytes:
    entry = re.compile(rb"(\x0a\x08location)(\x12\x04data)")
    return entry.sub(rb"\2\1", graph)


def _long_lengths(graph: bytes) -> bytes:
    """Writes the lengths of the entry in more bytes than they need, and all those around it."""
    model = onnx.load_from_string(graph)
    (matrix,) = (one for one in model.graph.initializer if one.external_data)
    entry = b"\x0a\x88\x80\x00location\x12\x84\x00data"
    del matrix.external_data[:]
    written = matrix.SerializeToString() + b"\x6a" + bytes([len(entry)]) + entry
    model.graph.initializer.remove(matrix)
    inside = model.graph.SerializeToString() + b"\x2a" + _varint(len(written)) + written
    model.ClearField("graph")
    return model.SerializeToString() + b"\x3a" + _varint(len(inside)) + inside


def _in_two_graphs(graph: bytes) -> bytes:
    """A message that is written twice is merged."""
    model = onnx.load_from_string(graph)
    first = onnx.ModelProto()
    first.graph.initializer.extend(model.graph.initializer)
    del model.graph.initializer[:]
    return model.SerializeToString() + first.SerializeToString()


def _behind_a_group(graph: bytes) -> bytes:
    return _varint(900 << 3 | 3) + _varint(900 << 3 | 4) + graph


def _varint(number: int) -> bytes:
    written = []
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])


@pytest.mark.parametrize("disguise", [_value_first, _long_lengths, _in_two_graphs, _behind_a_group])
def test_external_data_is_found_however_the_graph_is_written(tmp_path, disguise):
    """As ONNX Runtime finds it: by what the bytes mean."""
    told, made = [], []
    for name, matrix in (("a", SWAP), ("b", torch.eye(3))):
        folder = tmp_path / name
        folder.mkdir()
        path = save_net(folder / "net.onnx", matrix)
        onnx.save(
            onnx.load(path), path, save_as_external_data=True, location="data", size_threshold=0
        )
        graph = disguise(before := Path(path).read_bytes())
        assert graph != before
        Path(path).write_bytes(graph)
        runner = Runner(path)
        told.append([file.sha256 for file in runner.files])
        made.append(runner(torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, 4, 4)))
    assert not torch.equal(*made)
    assert told[0] != told[1]
    assert [len(one) for one in told] == [2, 2]


def test_what_an_attribute_of_a_graph_within_holds_elsewhere_is_found(tmp_path):
    tensor = onnx.numpy_helper.from_array(np.ones(3, np.float32), "inside")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="data")
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    inner = onnx.helper.make_graph([constant], "inner", [], [])
    branch = onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    model = onnx.helper.make_model(onnx.helper.make_graph([branch], "outer", [], []))
    (tmp_path / "data").write_bytes(b"x")
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert [file.path.name for file in files_of(tmp_path / "net.onnx")] == ["net.onnx", "data"]


@pytest.mark.parametrize(
    "graph", [b"", b"\xff" * 99, b"\x3a\xff\xff\xff\xff\x0f", b"\x3e\x3f", b"P5"]
)
def test_of_what_is_no_graph_the_file_alone_is_told(tmp_path, graph):
    (tmp_path / "net.onnx").write_bytes(graph)
    assert len([*files_of(tmp_path / "net.onnx")]) == 1


def test_a_loop_that_takes_all_of_the_memory_is_ended_and_one_that_is_long_told(
    tmp_path, monkeypatch, caplog
):
    endless(tmp_path / "net.onnx", grows=True)
    net = Runner(tmp_path / "net.onnx")
    begun = time.monotonic()

    def available(device):
        return 0 if time.monotonic() > begun + 0.5 else 2**40

    for name, value in (("available", available), ("LOOK", 0.05), ("LONG", 0.1)):
        monkeypatch.setattr(formats_onnx, name, value)
    with pytest.raises(MemoryLimitError, match=r"net\.onnx' takes all of the memory"):
        net(torch.rand(1, 3, 4, 4))
    assert caplog.messages == [f"'{tmp_path}/net.onnx' has not returned for 0 s: Ctrl-C ends it"]
    assert "cbs-onnx" not in {thread.name for thread in threading.enumerate()}
