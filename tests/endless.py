"""ONNX files whose loop has no end."""

from pathlib import Path

import numpy as np


def endless(path: Path, *, grows: bool = False) -> None:
    """Writes a net that multiplies a picture by 1 for ever, and keeps each product or none."""
    import onnx  # an extra, for which the tests that need it look

    info, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    nodes = [
        onnx.helper.make_node("Identity", ["on"], ["on_still"]),
        onnx.helper.make_node("Mul", ["x", "one"], ["next"]),
    ]
    kept = [info("kept", kinds.FLOAT, None)] if grows else []
    if grows:
        nodes.append(onnx.helper.make_node("Identity", ["next"], ["kept"]))
    body = onnx.helper.make_graph(
        nodes,
        "body",
        [info("i", kinds.INT64, []), info("on", kinds.BOOL, []), info("x", kinds.FLOAT, None)],
        [info("on_still", kinds.BOOL, []), info("next", kinds.FLOAT, None), *kept],
        [onnx.numpy_helper.from_array(np.float32(1), "one")],
    )
    outputs = ["out", "all"] if grows else ["out"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Loop", ["", "yes", "image"], outputs, body=body)],
        "net",
        [info("image", kinds.FLOAT, ["b", 3, "h", "w"])],
        [info("out", kinds.FLOAT, ["b", 3, "h", "w"])],
        [onnx.numpy_helper.from_array(np.array(True), "yes")],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
