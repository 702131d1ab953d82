"""``python -m benchmarks.stages``: what a frame takes outside of its nets, stage by stage.

Processor time, all threads together, which other programs change little: of each stage what its
net does not take. ``segment`` is then the resizing of the frame, ``style`` that and the enlarging
of what was painted, as ``cbs-run`` does both by itself; ``upload`` and ``download`` are the
conversions from and to 8 bits; ``decode`` and ``encode`` are the package's video codecs.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.workloads import FRAME_BY_FRAME, Nets, Scene, frame, ours
from cbs_core.accelerators.checked import Checked
from cbs_core.choose import registry
from cbs_core.contract.types import StreamInfo
from cbs_core.machine.meter import Meter

SIZES = ((256, 512), (512, 1024), (1024, 2048))
SHARE = 0.25
"""Of the frame that the matte covers."""

STAGES = ("decode", "upload", "segment", "matte", "style", "composite", "download", "encode")


class Busy(Meter):
    """Takes processor time in the place of the clock's, without that of nets.

    Args:
        clock: seconds of processors.
    """

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        super().__init__()
        self._clock = clock
        self.nets = 0.0
        """Milliseconds of nets since the start."""

        self.spent: defaultdict[str, list[float]] = defaultdict(list)

    @contextmanager
    def stage(self, name: str, *, device: torch.device | None = None) -> Iterator[None]:
        """Times a block, nets apart."""
        begun, nets = self._clock(), self.nets
        yield
        self.spent[name].append(1e3 * (self._clock() - begun) - (self.nets - nets))

    @contextmanager
    def net(self) -> Iterator[None]:
        """Times what a net does."""
        begun = self._clock()
        yield
        self.nets += 1e3 * (self._clock() - begun)


@contextmanager
def nets_told(meter: Busy) -> Iterator[None]:
    """Has the meter told of every net that an accelerator runs."""
    run = Checked.__call__

    def told(self: Checked, *inputs: torch.Tensor) -> Any:
        with meter.net():
            return run(self, *inputs)

    Checked.__call__ = told  # type: ignore[method-assign]
    try:
        yield
    finally:
        Checked.__call__ = run  # type: ignore[method-assign]


def measured(
    nets: Nets, scene: Scene, words: Sequence[str], frames: int
) -> tuple[dict[str, float], float]:
    """Returns milliseconds by stage, nets apart, and those of the nets, a frame's medians.

    Args:
        nets: the weights.
        scene: the frame.
        words: as typed after ``cbs-run``.
        frames: that are measured, after two that are not.
    """
    meter = Busy()
    with nets_told(meter):
        run = ours(nets, scene, 16, (*FRAME_BY_FRAME, *words), meter=meter)
        run()
        meter.spent.clear()
        each = []
        for _ in range(frames):
            before = meter.nets
            run()
            each.append(meter.nets - before)
        run.close()
    stages = {name: statistics.median(times) for name, times in meter.spent.items()}
    return stages, statistics.median(each)


def codecs(scene: Scene, frames: int, folder: Path) -> dict[str, float]:
    """Returns milliseconds of a frame's ``decode`` and ``encode``."""
    path = folder / f"{scene.height}.mp4"
    raw = frame(scene)
    begun = time.process_time()
    sink = registry.sinks.create("video", path=str(path))
    sink.open(StreamInfo(scene.width, scene.height, rate=Fraction(25)))
    for index in range(frames):
        pixels = raw.pixels.roll(4 * index, 1).contiguous()  # what stands still costs no bits
        sink.write(replace(raw, pixels=pixels, index=index, pts=Fraction(index, 25)))
    sink.close()
    encoded = time.process_time()
    with registry.sources.create("video", path=str(path)) as source:
        count = sum(1 for _ in source)
    decoded = time.process_time()
    assert count == frames
    return {
        "encode": 1e3 * (encoded - begun) / frames,
        "decode": 1e3 * (decoded - encoded) / frames,
    }


def main() -> int:
    """Measures and prints a table in Markdown."""
    parser = argparse.ArgumentParser(prog="stages", description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=9, help="that are measured of each")
    parser.add_argument("--heights", type=int, nargs="+", default=[one[0] for one in SIZES])
    args = parser.parse_args()
    facts = machine.facts(torch.device("cpu"))
    print(f"{facts['class']}, load {facts['load']:.1f}: milliseconds of processors, nets apart\n")
    print("| frame | compositor | " + " | ".join(STAGES) + " | nets | outside of them |")
    print("|---" * (4 + len(STAGES)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        nets = Nets(Path(folder))
        for height, width in SIZES:
            if height not in args.heights:
                continue
            scene = Scene(height, width, SHARE, 1)
            coded = codecs(scene, args.frames, Path(folder))
            for name in registry.compositors.names():
                words = (
                    "accelerator=openvino",
                    "matte=argmax" if name in ("hard", "mrf") else "matte=soft",
                    "segment_size=auto",
                    "style_size=auto",
                    f"compositor={name}",
                )
                stages, net = measured(nets, scene, words, args.frames)
                stages |= coded
                outside = sum(stages.values())
                cells = [f"{stages.get(stage, 0.0):.1f}" for stage in STAGES]
                share = f"{outside:.0f} ({outside / (outside + net):.0%})"
                row = [f"{height}x{width}", f"`{name}`", *cells, f"{net:.0f}", share]
                print(f"| {' | '.join(row)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
