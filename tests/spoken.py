"""Every command in one process, its beginning marked in a trace (`test_connections.py`).

Pictures are tiny and nets those of the package, so that what is loaded is what a user loads.
"""

import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from cbs_plugins.nets.johnson import TransformerNet
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from cbs_core.choose import registry
from tests import scenes, tiny_sam, tiny_transformers
from tests.jobs import HalfSky
from tests.media import make_clip, picture

MARK = "/command/"
"""Below it nothing is: a connection to a socket of a command's name fails, and is in the trace."""

PORT = 8189
"""Of the studio; nobody else is in this namespace."""

RUN = ("cbs-run", "sheet=null", "input=a.png", "routes=[sky]", "segmenter=half_sky")
EAGER = "accelerator=eager"
DABNET = "segmenter=dabnet"

COMMANDS: dict[str, tuple[str, ...]] = {
    "openvino": (*RUN[:3], "routes=[background]", DABNET, "accelerator=openvino", "output=1.png"),
    "onnxruntime": (*RUN, "accelerator=onnxruntime", "output=2.png"),
    "auto": (*RUN[:3], "routes=[person]", "segmenter=auto", "output=3.png"),
    "video": (*RUN[:2], "input=a.mp4", *RUN[3:], EAGER, "output=4.mp4"),
    "magenta": (*RUN, EAGER, "styler=magenta", "styler.style=7", "output=5.png"),
    "export": ("cbs-export", "styler=johnson", "styler.style=wave", "output=net.onnx"),
    "onnx": (*RUN, "styler=onnx", "styler.weights=net.onnx", EAGER, "output=6.png"),
    "export a segmenter": ("cbs-export", DABNET, "output=segmenter.onnx"),
    "onnx segmenter": (
        *(*RUN[:3], "routes=[background]", "segmenter=onnx", "segmenter.weights=segmenter.onnx"),
        *("accelerator=onnxruntime", "styler=magenta", "styler.style=a.png", "output=8.png"),
    ),
    "int8": (*RUN[:3], "routes=[background]", DABNET, "precision=int8", "output=9.png"),
    "compile": (*RUN, "styler.weights=net.pth", "accelerator=compile", "output=10.png"),
    "gatys": (
        *(*RUN, EAGER, "styler=gatys", "styler.style=a.png", "styler.iterations=1"),
        "output=11.png",
    ),
    "sam": (
        *(*RUN[:3], "routes=[object]", "segmenter=sam", "segmenter.model=sam", "select=20,20"),
        *(EAGER, "output=12.png"),
    ),
    "prompted": (
        *(*RUN[:3], 'routes={"red car": wave}', "segmenter=prompted"),
        *("segmenter.model=clipseg", EAGER, "output=13.png"),
    ),
    "huggingface": (
        *RUN[:3],
        *("routes=[person]", "segmenter=huggingface", "segmenter.model=hub", EAGER, "output=7.png"),
    ),
    "batch": (*("cbs-batch", "input=photos", "output=batch", DABNET, "routes=[person]", EAGER),),
    "augment": ("cbs-augment", "data=set", "output=more", "routes={car: wave}"),
    "train": (
        *("cbs-train", DABNET, "data=set", "steps=1", "recipe.crop=[32,32]"),
        *("recipe.batch=2", "recipe.warm_up=1", "workers=1", "compile=false"),
    ),
    "train a style": (
        *("cbs-train", "styler=johnson", "style=a.png", "data=photos", "steps=1", "compile=false"),
        *("recipe.width=8", "recipe.crop=32", "recipe.style_size=32", "recipe.held_out=1"),
    ),
    "eval": ("cbs-eval", DABNET, "data=set", "calls=1", "output=eval.json"),
    "scene": (
        *("cbs-scene", "input=box.glb", "output=new.glb", "routes={material:red: wave}"),
        *("size=64", "views=4", "turntable=null", "sheet=null"),
    ),
    "plugins": ("cbs-plugins", "list"),
    "doctor": ("cbs-doctor",),
    "live": (
        *("cbs-live", "input=a.mp4", DABNET, EAGER, "size=128", f"port={PORT}"),
        "styles=[wave]",
    ),
}


def material() -> None:
    """Makes what the commands read."""
    for folder in ("photos", "set/images", "set/labels"):
        Path(folder).mkdir(parents=True)
    Image.fromarray(picture(0)).save("a.png")
    for index in range(4):
        Image.fromarray(picture(index)).save(f"photos/{index}.png")
        Image.fromarray(picture(index)).save(f"set/images/{index}.png")
        labels = np.zeros((48, 64), np.uint8)
        labels[20:40, 10:30] = 1
        Image.fromarray(labels).save(f"set/labels/{index}.png")
    Path("set/classes.txt").write_text("road\ncar\n")
    make_clip(Path("a.mp4"), frames=3, sound=0.1)
    scenes.glb(Path("box.glb"))
    tiny_transformers.save("segformer", Path("hub"))
    tiny_transformers.save("clipseg", Path("clipseg"))
    tiny_sam.save("sam", Path("sam"))
    torch.save(TransformerNet(8).state_dict(), "net.pth")


def mark(name: str) -> None:
    """Writes a name into the trace."""
    with socket.socket(socket.AF_UNIX) as there:
        there.connect_ex(f"{MARK}{name}")


def call(words: tuple[str, ...]) -> int:
    """Runs a command; returns its code."""
    name = {"eval": "evaluate"}.get(words[0][4:], words[0][4:])
    GlobalHydra.instance().clear()
    os.environ.pop("HYDRA_FULL_ERROR", None)
    sys.argv = list(words)
    try:
        import_module(f"cbs_core.cli.{name}").main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def visit() -> None:
    """Asks the studio for its page and its state, once, and ends it."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/").read()
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v1/state").read()
            break
        except OSError:
            time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    """Runs all, and a look-up that must be seen."""
    os.chdir(sys.argv[1])
    registry.segmenters.register("half_sky", HalfSky)
    chosen = sys.argv[2:] or COMMANDS
    material()
    for name in chosen:
        words = COMMANDS[name]
        mark(name)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if name == "live":
            threading.Thread(target=visit, daemon=True).start()
        before = time.process_time()
        code = call(words)
        print(f"{name}: code {code}, {time.process_time() - before:.1f} s", flush=True)
    mark("control")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as seen:
        seen.connect_ex(("192.0.2.1", 53))


if __name__ == "__main__":
    main()
