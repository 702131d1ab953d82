"""No library calls home: it is told so before it is imported, in whatever way it is reached."""

import subprocess
import sys
from pathlib import Path

import pytest

SAID = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("onnxruntime", "huggingface_hub", "transformers"):
            said = [os.environ.get(f"{one}_DISABLE_TELEMETRY") for one in ("ORT", "HF_HUB")]
            print(name, *said)
            raise ImportError(name)
sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize(
    "reached",
    [
        "import cbs_core; import onnxruntime",
        "import cbs_plugins; import onnxruntime",
        "import cbs_plugins.formats; import onnxruntime",
        "import cbs_core.accelerators; import onnxruntime",
        "import cbs_core.cli.app; import onnxruntime",
        "import cbs_core; import huggingface_hub",
        "import cbs_plugins.formats.hub; import transformers",
    ],
)
def test_it_is_said_before_the_library_is_looked_for(reached: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SAID + reached],
        env={"HOME": str(tmp_path), "ORT_DISABLE_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.split() == [reached.split()[-1], "1", "1"]


def test_onnx_runtime_keeps_nothing_and_starts_no_uploader(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    subprocess.run(
        [sys.executable, "-c", "import cbs_core, onnxruntime as o; o.SessionOptions()"],
        env={"HOME": str(tmp_path)},
        cwd=tmp_path,
        check=True,
    )
    assert not list(tmp_path.rglob("*"))
