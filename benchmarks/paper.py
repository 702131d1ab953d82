"""``make paper``: the comparison of Kurzman, Vazquez and Laradji 2019 (1908.11525), as a command.

Labelled CamVid frames, one class, one style, each method through the same interfaces in one run:
a global feed-forward style (Johnson), CBS, Castillo-style targeted styling (object selection,
masked Gatys, MRF; a variant, see ``compositor=mrf``) and global Gatys. Writes ``table.txt``,
``paper.json`` and ``paper.png`` (rows: input, mask, global, CBS, Castillo-style).

The paper states 60.83 ms a frame of CBS on a P100 against "at least 15 s" of Castillo et al., a
ratio of 1 : 247, and no losses, boundaries or background errors.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cbs_plugins.formats.pictures import read_picture
from cbs_plugins.nets.losses import LAYERS, GatysLoss
from cbs_plugins.nets.scale import resize_to_area
from cbs_plugins.nets.vgg import VGG19
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.machine import untaken
from cbs_core.evaluation.metrics import background_error, boundary_f, iou
from cbs_core.frame.pipeline import Result
from cbs_core.frame.styling import Shown
from cbs_core.machine.device import Device, choose
from cbs_core.machine.files import free
from cbs_core.run import workshop
from cbs_core.run.stream import Stream

ROOT = Path(__file__).resolve().parents[1]

CLASS = "car"
CAMVID_CAR = 8
LEAST_SHARE = 0.05
"""Of a frame that the class must cover to be compared on."""

PAPER_MS = {"CBS": 60.83, "Castillo-style": 15_000.0}


@dataclass(frozen=True, slots=True)
class Case:
    """A labelled frame."""

    name: str
    image: Tensor
    """``(1,3,H,W)`` in [0,1]."""

    truth: NDArray[np.bool_]
    """``(H,W)``, the class."""


@dataclass(frozen=True, slots=True)
class Score:
    """One method on one frame."""

    seconds: float
    content: float
    """Gatys' content loss inside the true matte."""

    style: float
    """Gatys' style loss inside the true matte."""

    background: float
    """Mean absolute difference outside the method's own matte, levels of 255."""

    boundary_f: float | None
    """Of the method's matte against the labels; None where it has none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A method's picture, its matte and its score."""

    picture: NDArray[np.uint8]
    matte: NDArray[np.bool_] | None
    score: Score


Method = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""``(1,3,H,W)`` in [0,1] -> the picture, and the matte ``(H,W)`` where the method has one."""


def main() -> int:
    """Runs the comparison; returns 2 where its material is missing."""
    parser = argparse.ArgumentParser(prog="paper", description=__doc__.partition("\n")[0])
    shared = Path(os.environ.get("CBS_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="the folder of test material")
    parser.add_argument("--out", type=Path, help="for the results; else a new demo/paper")
    parser.add_argument("--frames", type=int, default=3, help="labelled frames to compare on")
    parser.add_argument("--iterations", type=int, default=100, help="evaluations of Gatys' loss")
    args = parser.parse_args()
    out = args.out or free(ROOT / "demo" / "paper")
    untaken(parser, *(out / name for name in ("table.txt", "paper.json", "paper.png")))
    needed = [
        camvid := args.shared / "data" / "camvid",
        painting := args.shared / "data" / "styles" / "udnie.jpg",
        segmenter := args.shared / "weights" / "dabnet" / "dabnet_cityscapes.pth",
        styler := args.shared / "weights" / "johnson" / "udnie_width16.pth",
    ]
    if missing := [path for path in needed if not path.exists()]:
        wanted = ", ".join(str(path.relative_to(args.shared)) for path in needed)
        print(
            f"paper: '{missing[0]}' is missing: say `make paper CBS_SHARED=FOLDER`, of a folder "
            f"that holds {wanted}: CamVid's frames and labels, a painting and two weight files"
        )
        return 2
    device = choose("auto")
    print(f"{device.device} ({device.name}), {args.frames} frames", flush=True)
    methods = build_methods(device, segmenter, styler, painting, args.iterations)
    cases = load_cases(camvid, args.frames, device.device)
    judge = Judge(painting, device.device)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in methods}
    for name in methods:  # the first call of a net allocates and chooses its kernels
        if name not in ("Castillo-style", "Gatys"):
            methods[name](cases[0].image)
    for case in cases:
        for name, method in methods.items():
            outcome = judge(case, method, device.device)
            outcomes[name].append(outcome)
            print(f"{case.name}  {name:15} {outcome.score.seconds:8.2f} s", flush=True)
    write(out, device, args.iterations, cases, outcomes)
    return 0


def build_methods(
    device: Device, segmenter: Path, styler: Path, painting: Path, iterations: int
) -> dict[str, Method]:
    """Returns the four methods by the name that the table gives them."""
    base: dict[str, Any] = {
        "segmenter": {"name": "dabnet", "weights": str(segmenter)},
        "accelerator": {"name": "eager"},
        "matte": "argmax",
        "routes": [CLASS],
    }
    johnson = {"name": "johnson", "weights": str(styler)}
    gatys = {
        "name": "gatys",
        "style": str(painting),
        "iterations": iterations,
        "size": 256,  # from coarse to fine: wider strokes, and sooner
        "warm_start": False,
    }

    def pipeline(config: Mapping[str, Any]) -> Stream:
        config = base | config
        return Stream(workshop.plan(config, device=device.device, dtype=torch.float32))

    cbs = pipeline({"styler": johnson, "compositor": {"name": "hard"}})
    castillo = pipeline({"styler": gatys, "compositor": {"name": "mrf"}, "select": "largest"})
    whole = pipeline({"styler": gatys | {"masked": False}, "compositor": {"name": "hard"}})

    def everywhere(stream: Stream) -> Method:
        (styling,) = stream.plan.stylings.values()

        def run(image: Tensor) -> tuple[Tensor, None]:
            with torch.inference_mode():
                full = torch.ones_like(image[:, :1])
                cells = np.ones((1, 1, 1), bool)
                return styling(image, Shown(full, [0], cells, 0), None)[0], None

        return run

    def targeted(stream: Stream) -> Method:
        def run(image: Tensor) -> tuple[Tensor, Tensor]:
            stream.reset()
            result: Result = stream(image)
            return result.image, result.mattes[0].sum(0) > 0.5

        return run

    return {
        "global": everywhere(cbs),
        "CBS": targeted(cbs),
        "Castillo-style": targeted(castillo),
        "Gatys": everywhere(whole),
    }


def load_cases(camvid: Path, count: int, device: torch.device) -> list[Case]:
    """Returns frames of the test set, evenly spread over those that show enough of the class."""
    found = []
    for path in sorted((camvid / "test").iterdir()):
        labels = np.asarray(Image.open(camvid / "test_labels" / f"{path.stem}.png"))
        if np.mean(labels == CAMVID_CAR) >= LEAST_SHARE:
            found.append((path, labels == CAMVID_CAR))
    chosen = [found[int((i + 0.5) * len(found) / count)] for i in range(min(count, len(found)))]
    return [
        Case(
            path.stem,
            read_picture(path)[0].to(device).permute(2, 0, 1)[None].float() / 255,
            truth,
        )
        for path, truth in chosen
    ]


class Judge:
    """Times a method on a frame and scores what it made."""

    def __init__(self, painting: Path, device: torch.device) -> None:
        self._vgg = VGG19(LAYERS, "max").to(device)
        self._style = read_picture(str(painting))[0].to(device).permute(2, 0, 1)[None]

    def __call__(self, case: Case, method: Method, device: torch.device) -> Outcome:
        """Returns the picture and its score; the device is waited for before and after."""
        _wait(device)
        start = time.perf_counter()
        styled, matte = method(case.image)
        _wait(device)
        seconds = time.perf_counter() - start
        content, style = self._losses(case, styled)
        picture = _to_uint8(styled)
        mask = None if matte is None else matte.cpu().numpy()
        original = _to_uint8(case.image)
        outside = case.truth if mask is None else mask
        score = Score(
            seconds,
            content,
            style,
            background_error(picture, original, outside),
            None if mask is None else boundary_f(mask, case.truth),
        )
        return Outcome(picture, mask, score)

    def _losses(self, case: Case, styled: Tensor) -> tuple[float, float]:
        height, width = case.truth.shape
        matte = torch.from_numpy(case.truth).to(styled.device)[None, None].float()
        with torch.no_grad():
            loss = GatysLoss(
                self._vgg,
                case.image * 255,
                resize_to_area(self._style, height * width),
                matte,
            )
            terms = loss.terms(styled.clone() * 255)
        return float(terms.content), float(terms.style)


def write(
    out: Path,
    device: Device,
    iterations: int,
    cases: list[Case],
    outcomes: Mapping[str, list[Outcome]],
) -> None:
    """Writes the table, the JSON and the figure, and prints the table."""
    out.mkdir(parents=True, exist_ok=True)
    medians = {name: _median(done) for name, done in outcomes.items()}
    lines = [
        f"{'method':16}{'s a picture':>12}{'content':>12}{'style':>12}{'background':>12}"
        f"{'boundary F':>12}"
    ]
    for name, row in medians.items():
        boundary = "-" if row.boundary_f is None else f"{row.boundary_f:.3f}"
        lines.append(
            f"{name:16}{row.seconds:12.3f}{row.content:12.4g}{row.style:12.4g}"
            f"{row.background:12.3f}{boundary:>12}"
        )
    ratio = medians["Castillo-style"].seconds / medians["CBS"].seconds
    stated = PAPER_MS["Castillo-style"] / PAPER_MS["CBS"]
    lines += [
        "",
        f"CBS : Castillo-style = 1 : {ratio:.0f} in seconds; the paper's 1 : {stated:.0f}",
        f"Medians of {len(cases)} CamVid test frames, {_size(cases[0])}, {iterations} evaluations "
        f"of Gatys' loss; {device.device} ({device.name}), float32.",
        "Losses inside the labelled cars; background: levels of 255 outside the method's own matte "
        "(outside the labels for the two global ones), beyond which the MRF may move a boundary.",
    ]
    text = "\n".join(lines)
    (out / "table.txt").write_text(text + "\n", encoding="utf-8")
    facts = {
        "device": {"type": str(device.device), "name": device.name, "cpu": platform.processor()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "iterations": iterations,
        "ratio": ratio,
        "paper_ratio": stated,
        "median": {name: asdict(row) for name, row in medians.items()},
        "frames": {
            case.name: {name: asdict(done[i].score) for name, done in outcomes.items()}
            | {"matte_iou": iou(_matte(outcomes["CBS"][i]), case.truth)}
            for i, case in enumerate(cases)
        },
    }
    (out / "paper.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    figure(cases, outcomes).save(out / "paper.png")
    print(f"\n{text}\n\n{out / 'table.txt'}\n{out / 'paper.json'}\n{out / 'paper.png'}")


def figure(cases: list[Case], outcomes: Mapping[str, list[Outcome]]) -> Image.Image:
    """Draws the poster's figure: a row a method, a column a frame."""
    rows = [
        ("input", [_to_uint8(case.image) for case in cases]),
        ("mask", [np.where(_matte(o)[..., None], 255, 0) for o in outcomes["CBS"]]),
        *((n, [o.picture for o in outcomes[n]]) for n in ("global", "CBS", "Castillo-style")),
    ]
    height, width = cases[0].truth.shape
    gap, left, font = 6, 140, ImageFont.load_default(18)
    size = (left + len(cases) * (width + gap), gap + len(rows) * (height + gap))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for row, (title, pictures) in enumerate(rows):
        top = gap + row * (height + gap)
        draw.text((gap, top + height // 2), title, "black", font, anchor="lm")
        for column, picture in enumerate(pictures):
            cell = Image.fromarray(np.broadcast_to(picture, (height, width, 3)).astype(np.uint8))
            sheet.paste(cell, (left + column * (width + gap), top))
    return sheet


def _matte(outcome: Outcome) -> NDArray[np.bool_]:
    assert outcome.matte is not None
    return outcome.matte


def _median(done: list[Outcome]) -> Score:
    columns = {key: [asdict(o.score)[key] for o in done] for key in asdict(done[0].score)}
    return Score(
        **{
            k: None if None in values else statistics.median(values)
            for k, values in columns.items()
        }
    )


def _to_uint8(image: Tensor) -> NDArray[np.uint8]:
    levels = image[0].mul(255).round().clamp(0, 255).byte()
    return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy())


def _size(case: Case) -> str:
    height, width = case.truth.shape
    return f"{width}x{height}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
