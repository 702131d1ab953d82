"""Makes an OpenVINO net one that multiplies in int8, by NNCF, in a process of its own.

NNCF changes torch where it is imported and writes to the standard output; and its memory is given
back so. ``python -m cbs_core.accelerators.quantise FOLDER`` reads ``net.xml`` and what its inputs
may be, ``seen.npz``, and writes ``int8.xml``.
"""

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cbs_core.contract.errors import AcceleratorError
from cbs_core.machine.scratch import scratch

FLOAT = ("MVN", "Add", "Subtract", "Multiply", "Divide", "Sqrt", "Power", "ReduceMean")
"""What stays in float: normalisation, by a layer's own statistics or by given ones."""


def installed() -> bool:
    """Tells whether NNCF is."""
    return find_spec("nncf") is not None


def quantised(xml: bytes, weights: bytes, seen: Sequence[tuple[Tensor, ...]]) -> bytes:
    """Returns OpenVINO's XML of the net in int8, a zero byte, and its constants.

    Args:
        xml: of the net, as OpenVINO writes it.
        weights: its constants.
        seen: inputs like those to come, from which the ranges of its layers are taken.

    Raises:
        AcceleratorError: NNCF is not installed, or cannot.
    """
    if not installed():
        raise AcceleratorError("int8 needs nncf: pip install 'class-based-styling[int8]'")
    with scratch("cbs-int8-") as folder:
        (folder / "net.xml").write_bytes(xml)
        (folder / "net.bin").write_bytes(weights)
        arrays: dict[str, Any] = {
            f"{place}.{port}": one.numpy()
            for place, inputs in enumerate(seen)
            for port, one in enumerate(inputs)
        }
        np.savez(folder / "seen.npz", **arrays)
        command = [sys.executable, "-m", __name__, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        made = folder / "int8.xml"
        if done.returncode or not made.is_file():
            last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            raise AcceleratorError(f"nncf: {last[:300]}")
        return made.read_bytes() + b"\0" + made.with_suffix(".bin").read_bytes()


def main(folder: Path) -> None:
    """Reads, quantises and writes."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it calls home
    import nncf
    import openvino as ov
    from openvino import passes

    model = ov.Core().read_model(folder / "net.xml")
    # Weights that are computed from parameters are none that can be made int8 once.
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
    arrays = np.load(folder / "seen.npz")
    seen: dict[str, dict[int, np.ndarray]] = {}
    for name in arrays.files:
        place, _, port = name.partition(".")
        seen.setdefault(place, {})[int(port)] = arrays[name]
    made = nncf.quantize(
        model,
        nncf.Dataset([*seen.values()]),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(seen),
        ignored_scope=nncf.IgnoredScope(types=[*FLOAT], validate=False),
    )
    ov.save_model(made, folder / "int8.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
