"""One picture's variants, made and written: what a worker of a run does.

Letters: ``H W`` the picture.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cbs_core.augment.painter import Painter, Shown, threads, with_unlabelled
from cbs_core.augment.rules import Drawn, Rule, chance, draw, parse
from cbs_core.augment.sets import ORIGINAL, File, Item, Layout, opened
from cbs_core.choose.sections import Choice
from cbs_core.contract.engines import Task
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.tensors import to_image, to_pixels
from cbs_core.datasets.labelled import LabelledSet, read_rgb
from cbs_core.frame.routes import Route
from cbs_core.machine import exif, files
from cbs_core.machine.inputs import picture_formats
from cbs_core.run import settings
from cbs_core.run.settings import Look
from cbs_core.run.workshop import Workshop

Record = dict[str, Any]
"""What the manifest tells of one picture, in plain values."""

Variants = Sequence[int | Record]
"""Numbers of a picture's variants, or what a manifest tells of them."""

FORMATS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    ".jpg": ("JPEG", {"subsampling": 0}),
    ".jpeg": ("JPEG", {"subsampling": 0}),
    ".webp": ("WEBP", {}),
    ".png": ("PNG", {}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
}
"""Suffix -> Pillow's format and its options. Colours of JPEG are not subsampled, since a style's
edges follow the labels' to the pixel."""

LOSSY = ("JPEG", "WEBP")

HOLD_ALPHA = ("PNG", "TIFF", "WEBP")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made; plain values, so that it can be sent to a worker."""

    data: str
    output: str
    config: Mapping[str, object] = field(repr=False)
    """The rest of ``conf/augment.yaml``."""

    @property
    def layout(self) -> Layout:
        """The set, as its files lie."""
        split, vocabulary = self.config["split"], self.config["vocabulary"]
        return opened(
            self.data,
            None if split is None else str(split),
            None if vocabulary is None else str(vocabulary),
            others=self.config["others"] is True,
        )

    def look(self) -> Look:
        """Returns what all variants have in common."""
        return settings.look({**self.config, "routes": None, "matte": "argmax"})

    def painter(self, labelled: LabelledSet) -> tuple[Painter, tuple[Rule, ...]]:
        """Builds what paints, and reads the rules by the names of its classes.

        Raises:
            CbsError: a plugin cannot be had, or a rule is wrong.
        """
        look, spec = self.look(), self.config["routes"]
        classes = with_unlabelled(labelled.classes) if self.config["mattes"] == "labels" else None
        words = [str(word) for word in spec] if isinstance(spec, Mapping | list) else [str(spec)]
        workshop = Workshop.on(str(self.config["device"]), str(self.config["precision"]))
        painter = Painter(look, classes, workshop, words)
        rules = parse(spec, classes=painter.classes, styler=look.styler, edges=look.compositor)
        workshop.keep(2 * len(rules) + sum(len(rule.pool) for rule in rules))
        return painter, rules


class Maker:
    """Makes variants of pictures, one picture after the other (`engines.Worker`).

    Args:
        wanted: what is to be made.

    Raises:
        CbsError: the set or a plugin cannot be had, or a rule is wrong.
    """

    def __init__(self, wanted: Wanted) -> None:
        layout = wanted.layout
        self._set = layout.labelled
        self._items = {item.name: item for item in (*layout.items, *layout.others)}
        self._output = Path(wanted.output)
        self._seed = int(str(wanted.config["seed"]))
        self._quality = int(str(wanted.config["quality"]))
        self._threads = int(str(wanted.config["threads"]))
        self._painter, self._rules = wanted.painter(layout.labelled)

    def close(self) -> None:
        """Frees nothing: its nets go with it."""

    def do(self, task: Task, /) -> list[list[Record]]:
        """Makes variants of a picture and writes them beside their labels.

        Args:
            task: by the name that each picture has in its set, the variants' numbers, 0 for the
                picture itself; or records of earlier ones, which are made again.

        Returns:
            Of each picture, what became of each variant.

        Raises:
            CbsError: the picture or its labels cannot be read, a file cannot be written, or
                another one has its name.
        """
        return [self._made(name, variants) for name, variants in task.what.items()]

    def _made(self, name: str, variants: Variants) -> list[Record]:
        item, made = self._items[name], list[Record]()
        seen: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
        # The picture itself last: one that cannot be read is not copied either.
        for one in sorted(variants, key=lambda one: one == ORIGINAL):
            number = one if isinstance(one, int) else int(one["variant"])
            if number == ORIGINAL:
                made.append(self._copied(item))
                continue
            if seen is None:
                _format(item.picture)
                seen = self._read(item)
            if isinstance(one, int):
                drawn = draw(self._rules, chance(self._seed, name, number))
            else:
                drawn = tuple(map(drawn_of, one["drawn"]))
            made.append(self._variant(item, number, drawn, *seen))
        return made

    def _read(self, item: Item) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        if self._painter.by_labels:
            return self._set.read(item.pair)
        return read_rgb(item.pair.picture), np.zeros((0, 0), np.uint8)

    def _copied(self, item: Item) -> Record:
        data = item.picture.source.read_bytes()
        self._labels(item, ORIGINAL)
        self._put(item.name, data)
        return {"picture": item.name, "of": item.name, "variant": ORIGINAL, "sha256": _sha256(data)}

    def _variant(
        self,
        item: Item,
        number: int,
        drawn: Sequence[Drawn],
        picture: NDArray[np.uint8],
        labels: NDArray[np.uint8],
    ) -> Record:
        given = torch.from_numpy(labels)[None] if self._painter.by_labels else None
        with threads(self._threads):
            (shown,) = self._painter(to_image(torch.from_numpy(picture)), [drawn], given)
        name = item.picture.named(number)
        data = _encoded(to_pixels(shown.image).cpu().numpy(), item.picture, self._quality)
        # The picture last: what has its name has its labels.
        self._labels(item, number)
        self._put(name, data)
        return {
            "picture": name,
            "of": item.name,
            "variant": number,
            "drawn": told(drawn, shown),
            "weights": {file.path.name: file.sha256 for file in shown.weights},
            "sha256": _sha256(data),
        }

    def _labels(self, item: Item, variant: int) -> None:
        for file in item.labels:
            self._put(file.named(variant), file.source.read_bytes())

    def _put(self, name: str, data: bytes) -> None:
        """Writes a file of the new set, whole or not at all.

        Raises:
            ConfigError: another file has that name.
            SinkError: it cannot be written.
        """
        put(self._output / name, data)


def put(path: Path, data: bytes) -> None:
    """Writes a file that is not there yet, whole or not at all; the same file may be there.

    Raises:
        ConfigError: another file is there.
        SinkError: it cannot be written.
    """
    if not path.exists():
        written = files.replace(path, lambda file: file.write(data), over=False)
        if written == path:
            return
        written.unlink()
    if path.read_bytes() != data:
        raise ConfigError(
            f"'{path}' is there already, and is another file: name another output=, or move it"
        )


def told(drawn: Sequence[Drawn], shown: Shown) -> list[Record]:
    """Returns what was drawn in plain values, with the share of the picture that each covers."""
    return [
        {
            "classes": list(one.route.classes),
            "styler": one.route.styler,
            "params": dict(one.route.params),
            "strength": one.route.strength,
            "keep_color": one.route.keep_color,
            "edges": {"name": one.edges.name, **one.edges.params},
            "share": round(share, 6),
        }
        for one, share in zip(drawn, shown.shares, strict=True)
    ]


def drawn_of(record: Record) -> Drawn:
    """Returns what a record tells.

    Raises:
        ConfigError: it tells nothing of the kind.
    """
    try:
        edges = dict(record["edges"])
        route = Route(
            tuple(map(str, record["classes"])),
            str(record["styler"]),
            dict(record["params"]),
            float(record["strength"]),
            bool(record["keep_color"]),
        )
        return Drawn(route, Choice(str(edges.pop("name")), edges))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"remake: the manifest is damaged ({error!r})") from error


def _encoded(pixels: NDArray[np.uint8], file: File, quality: int) -> bytes:
    """Returns a picture's file, with what the one that it is made of holds beside its colours."""
    kind, options = _format(file)
    if kind in LOSSY:
        options = {**options, "quality": quality}
    with Image.open(file.source, formats=picture_formats()) as source:
        # Of other modes the colours are not those of the profile any more.
        same = source.mode in ("RGB", "RGBA", "P", "PA")
        held = {
            "icc_profile": source.info.get("icc_profile") if same else None,
            "exif": exif.kept(source, exif.orientation(source)),
            "dpi": exif.density(source),
        }
        if kind in HOLD_ALPHA and source.has_transparency_data:
            upright = ImageOps.exif_transpose(source).convert("RGBA")
            pixels = np.dstack([pixels, np.array(upright.getchannel("A"))])
    out = io.BytesIO()
    more = {key: value for key, value in held.items() if value}
    Image.fromarray(pixels).save(out, kind, **more, **options)
    return out.getvalue()


def _format(file: File) -> tuple[str, Mapping[str, object]]:
    """Returns one of `FORMATS`.

    Raises:
        ConfigError: a variant of such a file is not written.
    """
    suffix = file.source.suffix.lower()
    if suffix not in FORMATS:
        raise ConfigError(
            f"'{file.source}': pictures of '{suffix}' are not written: save it as one of "
            f"{', '.join(FORMATS)}"
        )
    return FORMATS[suffix]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
