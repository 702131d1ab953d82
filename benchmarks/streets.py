"""Streets from elsewhere than CamVid, labelled where two teachers agree, to test nets on.

A pixel has a label where both MOSAIC (ADE20K's 31 most frequent classes) and EdgeTPU-DeepLab-slim
(Cityscapes), which were trained by others on other pictures, find the same of CamVid's classes;
elsewhere it is ignored. A picture counts as a street where a tenth of it is road by both, and they
agree on half of it.

    python -m benchmarks.streets SHARED WORK/streets        (needs ai-edge-litert)
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cbs_core.datasets.labelled import IGNORE, read_rgb
from cbs_core.words import vocabularies

NAMES = [*vocabularies.get("camvid")]

SIDE = 240
"""Pixels of a picture's longer side, as of the half-size CamVid."""

ROAD, AGREED = 0.1, 0.5
"""Shares of a picture, at least."""

EVERY = 20
"""Frames of a film from one that is taken to the next."""

VEHICLES = (6, 7, 14)
"""VOC's ids of bus, car and motorbike: photographs with masks that hold none are left out."""

ADE = {
    "building": (2, 26),
    "sky": (3,),
    "tree": (5, 18),
    "road": (7,),
    "pavement": (12,),
    "pedestrian": (13,),
    "car": (21,),
}
CITYSCAPES = {
    "road": (0,),
    "pavement": (1,),
    "building": (2,),
    "pole": (5,),
    "sign symbol": (6, 7),
    "tree": (8,),
    "sky": (10,),
    "pedestrian": (11,),
    "car": (13, 14, 15),
    "bicyclist": (12,),
    "fence": (4,),
}
"""CamVid's class -> ids of a teacher's."""


class Teacher:
    """A net that others have trained, as a TFLite file ``(1,h,w,3)`` uint8 -> ``(1,h,w)`` ids."""

    def __init__(
        self, file: Path, meaning: dict[str, tuple[int, ...]], names: Sequence[str] = NAMES
    ) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise SystemExit("the teachers are TFLite files: pip install ai-edge-litert") from None

        self._net: Any = Interpreter(str(file), num_threads=1)
        self._net.allocate_tensors()
        (self._input,), (self._output,) = (
            self._net.get_input_details(),
            self._net.get_output_details(),
        )
        self._ids = np.full(256, IGNORE, np.uint8)
        for name, ids in meaning.items():
            self._ids[list(ids)] = names.index(name)

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns ids ``(H,W)``, in the order of the names, of a picture ``(H,W,3)``."""
        side = int(self._input["shape"][1])
        small = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
        self._net.set_tensor(self._input["index"], np.asarray(small)[None])
        self._net.invoke()
        found = self._ids[self._net.get_tensor(self._output["index"])[0].astype(np.uint8)]
        size = (picture.shape[1], picture.shape[0])
        return np.asarray(Image.fromarray(found).resize(size, Image.Resampling.NEAREST))


def candidates(shared: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yields pictures that may be streets, none of CamVid: frames of films, photographs."""
    for name in ("solidWhiteRight.mp4", "test_video.mp4"):
        with av.open(str(shared / "data/video" / name)) as film:
            for number, frame in enumerate(film.decode(video=0)):
                if number % EVERY == 0:
                    yield f"{Path(name).stem}_{number:03}", frame.to_ndarray(format="rgb24")
    with (shared / "data/photos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        path = shared / "data" / row["file"]
        if "SegNet" in row["source"] or not (row["has_mask"] == "1" or "jetson" in row["source"]):
            continue
        if row["has_mask"] == "1":
            mask = np.asarray(Image.open(shared / "data/photo_masks" / f"{path.stem}.png"))
            if not np.isin(mask, VEHICLES).any():
                continue
        yield path.stem, read_rgb(path)


def main(argv: Sequence[str]) -> None:
    """Writes ``images/``, ``labels/`` and classes.txt."""
    shared, output = map(Path, argv)
    if output.exists() and any(output.iterdir()):
        raise SystemExit(f"'{output}' is there already: name another folder")
    weights = shared / "weights/teachers"
    first = Teacher(weights / "cityscapes_edgetpu_slim_quant.tflite", CITYSCAPES)
    second = Teacher(weights / "ade31_mosaic_r4_argmax_uint8.tflite", ADE)
    road = NAMES.index("road")
    for folder in ("images", "labels"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    (output / "classes.txt").write_text("\n".join(NAMES) + "\n")
    seen = kept = 0
    for name, picture in candidates(shared):
        seen += 1
        share = SIDE / max(picture.shape[:2])
        size = (round(picture.shape[1] * share), round(picture.shape[0] * share))
        labels = first(picture)
        if (labels == road).mean() < ROAD:
            continue
        labels = np.where(labels == second(picture), labels, np.uint8(IGNORE))
        if (labels == road).mean() < ROAD or (labels != IGNORE).mean() < AGREED:
            continue
        kept += 1
        Image.fromarray(picture).resize(size, Image.Resampling.BOX).save(
            output / f"images/{name}.png"
        )
        Image.fromarray(labels).resize(size, Image.Resampling.NEAREST).save(
            output / f"labels/{name}.png"
        )
    print(f"{kept} streets of {seen} pictures: {output}")


if __name__ == "__main__":
    main(sys.argv[1:])
