"""``make demo``: restyles a picture and a clip with whatever weights there are.

Weights are looked for in ``$CBS_WEIGHTS``, ``../shared/weights`` and the folders that `cbs-doctor`
lists. What is missing is said, with how to get it; nothing is made up for it.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("CBS_SHARED", ROOT.parent / "shared"))
OUT = ROOT / "demo"
STYLES = ("mosaic", "candy", "rain_princess", "udnie")

HOW = """\
How to get them: put a DABNet checkpoint into weights/dabnet/ and TransformerNet checkpoints
(pytorch/examples format) into weights/johnson/, or set CBS_WEIGHTS to a folder that holds both."""


def main() -> int:
    """Runs the demo; returns 0 where pictures were made, 2 where weights are missing."""
    folders = [os.environ.get("CBS_WEIGHTS", ""), str(SHARED / "weights")]
    os.environ["CBS_WEIGHTS"] = os.pathsep.join(folder for folder in folders if folder)

    from cbs_core import weights

    nets, styles = weights.names("dabnet"), weights.names("johnson")
    print(f"segmentation weights: {', '.join(nets) or 'MISSING'}")
    print(f"style weights:        {', '.join(styles) or 'MISSING'}")
    if not nets or not styles:
        print(f"Nothing can be restyled without both.\n{HOW}")
        return 2
    for name in set(STYLES) - set(styles):
        print(f"not found: the style {name}; another takes its place")
    mosaic, candy, rain, udnie = (s if s in styles else styles[0] for s in STYLES)

    street = SHARED / "data" / "pictures" / "highway_1.jpg"
    if street.is_file():
        picture, routes = str(street), f"{{car: {mosaic}, vegetation: {udnie}, sky: {candy}}}"
    else:
        # A net trained on streets knows little else; the motorcycle is the nearest sample.
        picture = "sample:motorcycle"
        routes = f"{{motorcycle: {mosaic}, person: {mosaic}, building: {rain}, truck: {rain}}}"
        print("no street picture here: the sample motorcycle takes its place")
    runs = (
        [f"input={picture}", "output=picture/restyled.png", "compositor=guided"],
        [f"input=pan:{picture}", "output=video/restyled.mp4", "source.frames=25"],
    )
    for run in runs:
        command = [str(Path(sys.executable).parent / "cbs-run"), *run, f"routes={routes}"]
        print("\n$", " ".join(command[:1] + [f"'{part}'" for part in command[1:]]), flush=True)
        OUT.mkdir(exist_ok=True)
        if code := subprocess.run(command, cwd=OUT, check=False).returncode:
            return code
    print(f"\nOpen {OUT / 'picture' / 'sheet.png'} first: original, classes, styles, composite.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
