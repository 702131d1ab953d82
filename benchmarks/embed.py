"""Puts trained weights into the package, each with a model card made of what was measured.

    python benchmarks/embed.py RUN.safetensors johnson/wave --title "The Great Wave, Hokusai" \\
        --eval wave.json --baseline wave_lbfgs.json
    python benchmarks/embed.py RUN.safetensors smp/voc --title "PASCAL VOC's 21 names" \\
        --eval voc.json --baseline teacher.json --licence "..." --note "..."

The figures are those of `cbs-eval` files: of the net, and of what it is compared with (for a style
fifty iterations of L-BFGS, ``cbs-eval styler=gatys styler.iterations=50 ...``, for a segmenter its
teacher). Folders are taken out of the header; only file names stay.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cbs_plugins

from cbs_core.choose.weights import SUMS, load
from cbs_core.machine.files import replace
from cbs_core.training import export

FOLDER = Path(cbs_plugins.__path__[0]) / "weights"

MOST = 6_000_000
"""Bytes of a file."""

MOST_OF_ALL = 40_000_000

LEFT_OUT = ("recipe", "metrics", "classes", "mean", "std", "options")
"""Of the header, from the card's table: shown elsewhere, or of no use to a reader."""


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="as cbs-train wrote it")
    parser.add_argument("name", help="PLUGIN/NAME")
    parser.add_argument("--title", required=True)
    parser.add_argument("--eval", type=Path, required=True, help="cbs-eval's of these weights")
    parser.add_argument("--baseline", type=Path, help="cbs-eval's of what it is compared with")
    parser.add_argument("--licence", default="Apache-2.0, as CBS")
    parser.add_argument("--data", required=True, help="what it was trained on, in words")
    parser.add_argument("--note", action="append", default=[], help="a paragraph")
    given = parser.parse_args()

    checkpoint = load(given.file)
    scores = json.loads(given.eval.read_text())
    if scores["weights"][0]["sha256"] != checkpoint.file.sha256:
        print(f"{given.eval} is not of {given.file}", file=sys.stderr)
        return 1
    header = dict(checkpoint.metadata)
    header["recipe"] = json.dumps(without_folders(json.loads(header["recipe"])))
    header["licence"] = given.licence
    path = FOLDER / f"{given.name}.safetensors"
    export.write(path, checkpoint.tensors, header, half=True)
    if path.stat().st_size > MOST:
        path.unlink()
        print(f"{path.name} would have more than {MOST:,} bytes", file=sys.stderr)
        return 1
    baseline = None if given.baseline is None else json.loads(given.baseline.read_text())
    text = card(given, header, path, scores, baseline)
    replace(path.with_suffix(".md"), lambda file: file.write(text.encode()))
    sums()
    total = sum(file.stat().st_size for file in FOLDER.glob("*/*.safetensors"))
    print(f"{path} ({path.stat().st_size:,} bytes; {total:,} in all)")
    return 0 if total <= MOST_OF_ALL else 1


def without_folders(value: Any) -> Any:
    """Returns a configuration whose paths are file names."""
    if isinstance(value, Mapping):
        return {key: without_folders(part) for key, part in value.items()}
    return (
        Path(value).name if isinstance(value, str) and value.startswith(("/", ".", "~")) else value
    )


def sha256(path: Path) -> str:
    """Returns a file's digest."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sums() -> None:
    """Writes down the digests of all files, by which they are checked at loading."""
    files = sorted(FOLDER.glob("*/*.safetensors"))
    lines = [f"{sha256(file)}  {file.relative_to(FOLDER).as_posix()}\n" for file in files]
    replace(FOLDER / SUMS, lambda file: file.write("".join(lines).encode()))


def card(
    given: argparse.Namespace,
    header: Mapping[str, str],
    path: Path,
    scores: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
) -> str:
    """Returns the model card, Markdown."""
    cost = scores["cost"]
    rows = {key: value for key, value in sorted(header.items()) if key not in LEFT_OUT}
    rows |= {
        "parameters": f"{cost['parameters']:,}",
        "GMAC": f"{cost['gmac']:.2f} at {cost['width']}x{cost['height']}",
        "file": f"{path.stat().st_size:,} bytes, SHA-256 `{sha256(path)}`",
    }
    recipe = ", ".join(f"{k}={v}" for k, v in json.loads(header["recipe"]).items() if v is not None)
    figures = (of_styles if "totals" in scores["scores"] else of_classes)(scores, baseline)
    return (
        "\n\n".join(
            [
                f"# {given.name}: {given.title}",
                f"**Licence**: {given.licence}. **Trained on**: {given.data}",
                *given.note,
                "## Figures",
                figures,
                "## Training",
                table(("", ""), rows.items()),
                f"Recipe: `{recipe}`",
            ]
        )
        + "\n"
    )


def of_styles(scores: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
    """Returns the losses of a style, beside those of an optimisation."""
    ours = scores["scores"]
    theirs = None if baseline is None else baseline["scores"]
    unstyled = 1000 * ours["unstyled_style"]
    lines = [
        f"Gatys' objective (VGG-19, content weight 1, style weight 1000) on {ours['pictures']} "
        f"photographs that it was not trained on, squares of {scores['config']['size']} pixels: "
        f"mean **{ours['total']:.3g}**"
    ]
    faults = of_faults(ours)
    if theirs is None:
        return "\n\n".join([f"{lines[0]}; of the photographs themselves {unstyled:.3g}.", *faults])
    lines[0] += (
        f", of {baseline['config']['styler']['iterations']} iterations of L-BFGS from the "  # type: ignore[index]
        f"photograph {theirs['total']:.3g}, of the photographs themselves {unstyled:.3g}."
    )
    pairs = zip(ours["totals"], theirs["totals"], strict=True)
    rows = [(str(n), f"{a:.3g}", f"{b:.3g}") for n, (a, b) in enumerate(pairs, 1)]
    mean = ("mean", f"**{ours['total']:.3g}**", f"{theirs['total']:.3g}")
    lines.append(table(("photograph", "this net", "L-BFGS"), [*rows, mean]))
    return "\n\n".join([*lines, *faults])


FAULTS = {
    "grid_2": "grid, period 2",
    "grid_4": "grid, period 4",
    "grid_8": "grid, period 8",
    "border_mean": "border, mean",
    "border_deviation": "border, deviation",
    "equivariance": "equivariance",
}


def of_faults(scores: Mapping[str, Any]) -> list[str]:
    """Returns what a loss does not see (`cbs_core.evaluation.faults`), beside the photographs'."""
    rows = [
        (name, *(f"{scores[k]:.3f}" if k in scores else "" for k in (key, f"unstyled_{key}")))
        for key, name in FAULTS.items()
        if key in scores
    ]
    if not rows:
        return []
    told = (
        "Faults that no loss sees: the power of a grid over that around it, the border's luminance "
        "over that of the ring inside of it, and how much strokes change where the picture moves "
        "by a few pixels (0: not at all, 1: as two neighbouring pixels)."
    )
    return [told, table(("fault", "this net", "the photographs"), rows)]


def of_classes(scores: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
    """Returns the IoU of a segmenter, beside its teacher's."""
    ours = scores["scores"]
    theirs = None if baseline is None else baseline["scores"]
    names = ("class", "IoU", "boundary F") + (() if theirs is None else ("teacher's IoU",))

    def row(name: str, iou: float, boundary: float | None, teacher: float | None) -> list[str]:
        cells = [name, f"{iou:.3f}", "" if boundary is None else f"{boundary:.3f}"]
        return cells if theirs is None else [*cells, "" if teacher is None else f"{teacher:.3f}"]

    rows = [
        row(
            name,
            iou,
            ours["boundary_f"].get(name),
            None if theirs is None else theirs["iou"].get(name),
        )
        for name, iou in ours["iou"].items()
    ]
    of_all = None if theirs is None else theirs["mean_iou"]
    rows.append(row("**mean**", ours["mean_iou"], None, of_all))
    data = scores["data"]
    where = f"{ours['pictures']} pictures, split {data['split']} of {Path(data['data']).name}"
    accuracy = (
        f"Pixel accuracy {ours['pixel_accuracy']:.3f} on {where}; mean over the classes there."
    )
    return f"{accuracy}\n\n{table(names, rows)}"


def table(head: tuple[str, ...], rows: Any) -> str:
    """Returns a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
