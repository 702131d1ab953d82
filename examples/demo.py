"""``make demo``: restyles the sample photographs and a clip, with the package's own weights.

It needs no network. It writes into ``demo/``: a picture and a sheet (original, classes, styles,
composite) of a person, a cat and a motorcycle, and a clip that pans over the motorcycle.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "demo"

SMOOTH = ("matte=soft", "compositor=guided")

RUNS = (
    ("sample:astronaut", "person/restyled.png", "{person: starry_night}"),
    ("sample:cat", "cat/restyled.png", "{cat: composition_vii, background: wave}"),
    (
        "sample:motorcycle",
        "motorbike/restyled.png",
        "{motorbike: the_scream, bicycle: the_scream, background: {style: wave, strength: 0.8}}",
    ),
    (
        "pan:sample:motorcycle",
        "clip/restyled.mp4",
        "{motorbike: starry_night, bicycle: starry_night}",
        "source.frames=50",
    ),
)
"""Input, output, routes, and what else."""


def main() -> int:
    """Runs the demo; returns its exit code."""
    started = time.monotonic()
    OUT.mkdir(exist_ok=True)
    for source, output, routes, *rest in RUNS:
        given = [f"input={source}", f"output={output}", f"routes={routes}", *SMOOTH, *rest]
        if (OUT / output).with_suffix(".report.json").is_file():  # of an earlier `make demo`
            given.append("overwrite=true")
        print("\n$ cbs-run", " ".join(f"'{part}'" for part in given), flush=True)
        command = [str(Path(sys.executable).parent / "cbs-run"), *given]
        if code := subprocess.run(command, cwd=OUT, check=False).returncode:
            return code
    print(f"\nDone in {time.monotonic() - started:.0f} s. In {OUT}:")
    for _, output, *_ in RUNS:
        print(f"  {output}, and {Path(output).with_suffix('.sheet.png')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
