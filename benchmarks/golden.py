"""Thirty runs whose pictures a change of structure must not change: to the bit, on one machine.

    python -m benchmarks.golden record before.json     # in the checkout before the change
    python -m benchmarks.golden compare before.json    # in the one after it

Each run is ``cbs-run`` in a process of its own, in eager float32, so that nothing is measured or
rounded otherwise; what is kept are digests of the pixels that it wrote, not of files. Digests of
two machines differ, because their convolutions round differently.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks.machine import untaken

USUAL = ("accelerator=eager", "precision=fp32", "device=cpu", "quiet=true")

PICTURES = {
    "plain": "routes=[person]",
    "bare": "",
    "soft": "matte=soft routes=[person]",
    "soft-guided": "matte=soft compositor=guided routes=[person]",
    "feather": "compositor=feather routes=[person]",
    "guided": "compositor=guided routes=[person]",
    "mrf": "compositor=mrf routes=[person]",
    "strength": "routes={person: {style: udnie, strength: 0.6}}",
    "keep-colour": "routes={person: {style: wave, keep_color: true}}",
    "background": "routes={person: udnie, background: wave}",
    "three-soft": "matte=soft routes={person: udnie, background: wave, bottle: the_scream}",
    "none": "routes={person: none, background: wave}",
    "half-segmented": "segment_size=0.5 routes=[person]",
    "sized": "segment_size=[200,260] routes=[person]",
    "largest": "select=largest routes=[person,bottle]",
    "second": "select=2 routes=[person,bottle]",
    "point-soft": "select=220,200 matte=soft routes=[person]",
    "mask": "styler.where=mask routes=[person]",
    "mask-guided": "styler.where=mask compositor=guided matte=soft routes=[person]",
    "dabnet": "segmenter=dabnet routes=[person]",
    "motorcycle": "input=sample:motorcycle routes={vehicles: the_scream, background: wave}",
}
"""On ``sample:astronaut``, but for the last."""

CLIP = (
    "input=pan:sample:astronaut source.frames=8 source.width=400 source.height=320 "
    "source.period=150"
)

CLIPS = {
    "clip": "routes=[person]",
    "clip-serial-soft": "scheduler=serial matte=soft routes=[person]",
    "clip-pipeline": "scheduler=pipeline routes={person: wave, background: udnie}",
    "clip-scene": "styler.statistics=scene routes=[person]",
    "clip-frozen": "styler.statistics=frozen routes=[person]",
    "clip-refresh": "styler.statistics=refresh:3 routes=[person]",
    "clip-mask": "styler.where=mask routes=[person]",
    "clip-mask-16": "styler.where=mask styler.halo=16 routes=[person]",
    "clip-every-3": "segment_every=3 routes=[person]",
    "clip-every-3-mask-select": "segment_every=3 styler.where=mask select=largest routes=[person]",
}


def runs() -> dict[str, list[str]]:
    """Returns the arguments of each run, by name."""
    found = {name: [*_words(text), *USUAL] for name, text in PICTURES.items()}
    for name, text in CLIPS.items():
        found[name] = [*CLIP.split(), *_words(text), *USUAL]
    return found


def _words(text: str) -> list[str]:
    """Splits arguments at spaces, outside of braces."""
    words, depth = [""], 0
    for letter in text:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == " " and not depth:
            words.append("")
        else:
            words[-1] += letter
    return [word for word in words if word]


def digest(folder: Path) -> str:
    """Returns a SHA-256 of the pixels of all pictures in a folder, in the order of their names."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.png")):
        pixels = np.asarray(Image.open(path))
        found.update(repr((path.name, pixels.shape)).encode())
        found.update(pixels.tobytes())
    return found.hexdigest()


def run(arguments: list[str]) -> str:
    """Runs the command; returns the digest of what it wrote."""
    command = Path(sys.executable).with_name("cbs-run")
    with TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        done = subprocess.run(
            [command, *arguments, f"output={output}/", "sheet=null", "report=null"],
            cwd=folder,
            env={**os.environ, "CBS_CACHE": f"{folder}/cache"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return f"exit {done.returncode}: {done.stderr.strip()[-300:]}"
        return digest(output)


def main() -> None:
    """Records, or compares and exits with 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    if given.what == "record":
        untaken(parser, given.file)
    found = {}
    for name, arguments in runs().items():
        found[name] = run(arguments)
        print(f"{name:28}{found[name][:64]}", flush=True)
    if given.what == "record":
        given.file.parent.mkdir(parents=True, exist_ok=True)
        given.file.write_text(json.dumps(found, indent=2) + "\n")
        return
    before = json.loads(given.file.read_text())
    differing = [name for name in found if found[name] != before.get(name)]
    print(f"{len(found) - len(differing)} of {len(found)} the same; differing: {differing or '-'}")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
