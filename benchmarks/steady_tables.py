"""The tables and the chart of `benchmarks.steady`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
"""Marks of a document, between which the tables are."""

COLOURS = {
    "off": (176, 176, 176),
    "matte": (70, 130, 90),
    "matte, lookahead=4": (120, 180, 140),
    "full": (40, 90, 180),
}

CLIPS = (
    "| clip | steady | flicker | of off's | recall | warping error inside | of off's | outside "
    "| sharpness | style loss | FPS |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def clip_rows(name: str, ways: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Returns a clip's lines of the table."""
    off = ways["off"]
    return [
        f"| {name if way == 'off' else ''} | {way} | {_percent(one['flicker'])} "
        f"| {_ratio(one['flicker'], off['flicker'])} | {_number(one['recall'])} "
        f"| {_number(one['inside'], 4)} | {_ratio(one['inside'], off['inside'])} "
        f"| {_number(one['outside'], 5)} | {_ratio(one['gradient'], off['gradient'])} "
        f"| {_ratio(one['style'], off['style'])} | {one['fps']:.2f} |"
        for way, one in ways.items()
    ]


def text(results: Mapping[str, Any]) -> list[str]:
    """Returns the lines of all tables."""
    lines = ["", CLIPS]
    for name, ways in results["clips"].items():
        lines += clip_rows(name, ways)
    lines += [
        "",
        "| exact motion | warping error, of off's | sharpness | style loss |\n|---|---|---|---|",
    ]
    for row in results["exact"]:
        lines.append(
            f"| {row['clip']}, {row['style']} | {_number(row['warping'])} "
            f"| {_number(row['gradient'])} | {_number(row['style loss'])} |"
        )
    lines += [
        "",
        "| calm part of | source, levels a frame | off | full | full, worst frame |\n"
        "|---|---|---|---|---|",
    ]
    for row in results["sky"]:
        lines.append(
            f"| {row['clip']}, {row['style']} | {row['source']:.1f} | {row['off']:.1f} "
            f"| {row['full']:.1f} | {row['full, worst']:.1f} |"
        )
    lines += [
        "",
        "| disc | recall, worst frame: off | matte | mean: off | matte | frames beyond 2 px: off "
        "| matte | frames it stays: matte |\n|---|---|---|---|---|---|---|---|",
    ]
    for name, ways in results["discs"].items():
        off, held = ways["off"], ways["matte"]
        lines.append(
            f"| {name} | {off['least']:.2f} | {held['least']:.2f} | {off['recall']:.2f} "
            f"| {held['recall']:.2f} | {off['beyond']} | {held['beyond']} | {held['stays']} |"
        )
    return lines


def chart(results: Mapping[str, Any]) -> Image.Image:
    """Draws a bar a clip and way: flicker, and the warping error inside of the mattes."""
    font, step, left, wide = ImageFont.load_default(14), 20, 230, 300
    clips = results["clips"]
    height = step * (3 + sum(len(ways) + 1 for ways in clips.values()))
    picture = Image.new("RGB", (left + 2 * (wide + 90), height), "white")
    pen = ImageDraw.Draw(picture)
    for column, (key, title) in enumerate(
        (("flicker", "matte flicker, of off's"), ("inside", "warping error inside, of off's"))
    ):
        x, y = left + column * (wide + 90), 2 * step
        pen.text((x, step // 2), title, "black", font)
        third = x + wide / 3
        for name, ways in clips.items():
            if not column:
                pen.text((8, y), name, "black", font)
            for way, one in ways.items():
                if not column:
                    pen.text((left - 8, y + step // 2), way, "black", font, anchor="rm")
                share = one[key] / ways["off"][key] if ways["off"][key] else math.nan
                if not math.isnan(share):
                    end = x + min(share, 1.1) * wide
                    pen.rectangle((x, y + 3, end, y + step - 3), fill=COLOURS[way])
                    pen.text((end + 4, y + step // 2), f"{share:.2f}", "black", font, anchor="lm")
                y += step
            y += step
        pen.line((third, 2 * step - 4, third, y - step), fill=(200, 60, 40), width=1)
        pen.text((third, y - step + 2), "a third", (200, 60, 40), font, anchor="ma")
    return picture


def fill(docs: Path, results: Mapping[str, Any], picture: str) -> None:
    """Writes tables and chart between the marks of a document."""
    facts = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines = [
        f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, load "
        f"{facts['load']:.1f}; commit {facts['commit']}"
        f"{' with changes' if facts['changed'] else ''}; {versions}; "
        f"`{' '.join(results['words'])}`.",
        *text(results),
        "",
        f"![flicker and warping error]({picture})",
    ]
    before, _, rest = docs.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    whole = f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}"
    docs.write_text(whole, encoding="utf-8")


def _number(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}%"


def _ratio(value: float, base: float) -> str:
    return "-" if math.isnan(value) or not base else f"{value / base:.2f}"
