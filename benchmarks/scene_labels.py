"""Labels of the vocabulary ``scene`` for photographs, by teachers, to train ``smp/scene`` on.

VOC's things are those of a photograph's true mask, else what ESPNetv2 (VOC) is sure of and a net of
this package (``smp/voc``) does not take for another thing. The stuff around them is what MOSAIC
(ADE20K's 31 most frequent classes) sees, in the picture and in its mirror image alike, where both
of VOC's nets see no thing, or the true mask has none. On frames of streets a net of Cityscapes
tells trees, sky and buildings before it. Elsewhere a pixel is ignored, but for `NOT_PERSON` of a
true mask.

CamVid's labels are no part of this: its photographs, and the pictures of its split ``train``, are
labelled by the teachers alone. A part of the photographs without masks is held back as the split
``test``; MOSAIC's own answers for those are written beside, to compare with: all (``mosaic``), and
those that it repeats of the mirror image (``mirrored``).

    python -m benchmarks.scene_labels SHARED WORK/scene [PART/PARTS]      (needs ai-edge-litert)

Each of the parts labels a share of the pictures and writes a table of its own; ``PARTS`` of them
may run at once. ``join`` in place of a part makes one table of theirs. What is labelled stays.
"""

import csv
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from benchmarks.streets import Teacher
from cbs_core.choose import registry
from cbs_core.contract.tensors import to_image, to_size
from cbs_core.datasets.labelled import IGNORE, NOT_PERSON, read_rgb
from cbs_core.words import vocabularies

NAMES = [*vocabularies.get("scene")]
"""What `ADE` and `CITYSCAPES` name beyond them is ignored."""

THINGS = 20
"""VOC's ids 1 to 20 are the first ones of the names."""

SURE = 0.8
"""Probability of a thing by ESPNetv2, at least."""

SHARE = 0.75
"""Of a photograph's sides, at which VOC's nets see it: a thing must be told there, no outline."""

NO_THING = 0.6
"""Probability of VOC's background by both nets, at least, for stuff."""

HELD_BACK = 12
"""Of so many photographs without masks one is held back."""

FEWER = {"chanakya2734/Image-classification-using-CNN": 4, "bearpaw/clothing-co-parsing": 2}
"""Of sources of many pictures that are alike, one of so many is taken: cats, and fashion."""

CAMVID = 2
"""Frames of CamVid's split ``train`` from one that is taken to the next."""

EVERY = {"solidWhiteRight.mp4": 15, "test_video.mp4": 4, "bedroom.mp4": 20}
"""Frames of a film from one that is taken to the next."""

ADE = {
    "wall": (1,),
    "building": (2, 26),
    "sky": (3,),
    "floor": (4,),
    "tree": (5,),
    "ceiling": (6,),
    "road": (7,),
    "bed": (8,),
    "window": (9,),
    "grass": (10, 30),
    "cabinet": (11, 25),
    "sidewalk": (12,),
    "earth": (14,),
    "door": (15,),
    "mountain": (17,),
    "bush": (18,),
    "curtain": (19,),
    "water": (22, 27),
    "painting": (23,),
}
"""Ids of MOSAIC; its things, rugs and mirrors are left to no one, and it never answers 0."""

CITYSCAPES = {
    "road": (0,),
    "sidewalk": (1,),
    "building": (2,),
    "wall": (3,),
    "tree": (8,),
    "sky": (10,),
}

OF_CITY = [NAMES.index(name) for name in ("tree", "sky", "building")]
"""What it tells before MOSAIC on streets: on a part of CamVid's split ``val`` trees have 0.84 IoU
by it and 0.58 by MOSAIC, sidewalks 0.30 and 0.77."""

Ids = NDArray[np.uint8]


class Photograph(NamedTuple):
    """A picture to be labelled."""

    path: Path
    split: str
    mask: Path | None = None
    street: bool = False


def photographs(shared: Path, output: Path) -> Iterator[Photograph]:
    """Yields what is labelled; frames of films are written as pictures."""
    with (shared / "data/photos.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    unmasked = 0
    seen: Counter[str] = Counter()
    for row in rows:
        path = shared / "data" / row["file"]
        source = row["source"].partition(":")[0]
        seen[source] += 1
        if row["split"] == "train" and seen[source] % FEWER.get(source, 1):
            continue
        if "SegNet" in row["source"]:
            if row["split"] == "val":
                yield Photograph(path, "val", street=True)
            continue  # the others are CamVid's own, below
        if row["has_mask"] == "1":
            mask = shared / "data/photo_masks" / f"{path.stem}.png"
            yield Photograph(path, row["split"], mask)
        else:
            unmasked += 1
            yield Photograph(path, "train" if unmasked % HELD_BACK else "test")
    for path in sorted((shared / "data/camvid/train").iterdir())[::CAMVID]:
        yield Photograph(path, "train", street=True)
    for name, every in EVERY.items():
        folder = output / "frames"
        folder.mkdir(parents=True, exist_ok=True)
        with av.open(str(shared / "data/video" / name)) as film:
            for number, frame in enumerate(film.decode(video=0)):
                path = folder / f"{Path(name).stem}_{number:04}.jpg"
                if number % every == 0:
                    if not path.is_file():
                        picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
                        picture.thumbnail((640, 640), Image.Resampling.LANCZOS)
                        picture.save(path, quality=92)
                    yield Photograph(path, "train", street=name != "bedroom.mp4")


def known(meaning: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Returns what of a net's ids has a name in the vocabulary."""
    return {name: ids for name, ids in meaning.items() if name in NAMES}


def turn(photo: Photograph) -> tuple[bool, bool, str]:
    """Returns by what photographs are sorted, so that a part of them is a fair one at any time."""
    shuffled = hashlib.sha256(photo.path.stem.encode()).hexdigest()
    return photo.split != "train", not photo.street, shuffled


def padded(teacher: Teacher, picture: NDArray[np.uint8]) -> Ids:
    """Returns what a teacher of squares finds in a picture that black makes a square."""
    height, width = picture.shape[:2]
    square = np.zeros((max(height, width),) * 2 + (3,), np.uint8)
    square[:height, :width] = picture
    return teacher(square)[:height, :width]


class Labels:
    """The teachers, and the rule by which they are merged."""

    def __init__(self, shared: Path) -> None:
        weights = shared / "weights/teachers"
        self.mosaic = Teacher(weights / "ade31_mosaic_r4_argmax_uint8.tflite", known(ADE), NAMES)
        self._city = Teacher(
            weights / "cityscapes_edgetpu_slim_quant.tflite", known(CITYSCAPES), NAMES
        )
        espnetv2 = shared / "weights/espnetv2/espnetv2_s_2.0_pascal_384x384.pth"
        nets = (
            registry.segmenters.create("espnetv2", weights=str(espnetv2)),
            registry.segmenters.create("smp", vocabulary="voc"),
        )
        self._nets = [net.eval().to(memory_format=torch.channels_last) for net in nets]

    @torch.inference_mode()
    def things(self, picture: NDArray[np.uint8]) -> tuple[Ids, NDArray[np.bool_]]:
        """Returns VOC's things ``(H,W)``, 255 where no one is sure, and where there is none."""
        image = to_image(torch.from_numpy(picture))
        image = F.interpolate(image, scale_factor=SHARE, mode="bilinear", antialias=True)
        image = image.contiguous(memory_format=torch.channels_last)
        sure, known = (
            to_size(net(image).float(), picture.shape[:2])[0].softmax(0) for net in self._nets
        )
        share, thing = sure.max(0)
        other = known.argmax(0)
        certain = (thing > 0) & (share >= SURE) & ((other == thing) | (other == 0))
        found = torch.where(certain, thing - 1, IGNORE).byte().numpy()
        return found, ((sure[0] >= NO_THING) & (known[0] >= NO_THING)).numpy()

    def stuff(self, picture: NDArray[np.uint8], street: bool) -> tuple[Ids, Ids, Ids]:
        """Returns what is around things ``(H,W)``, 255 where no one knows, and MOSAIC's answers.

        Those are all, and, 255 elsewhere, those that are the same of the mirror image.
        """
        mosaic = padded(self.mosaic, picture)
        mirrored = padded(self.mosaic, np.ascontiguousarray(picture[:, ::-1]))[:, ::-1]
        sure = np.where(mirrored == mosaic, mosaic, np.uint8(IGNORE))
        if not street:
            return sure, mosaic, sure
        city = self._city(picture)
        return np.where(np.isin(city, OF_CITY), city, sure), mosaic, sure

    def __call__(self, photo: Photograph) -> tuple[Ids, Ids, Ids]:
        """Returns the labels of a photograph ``(H,W)``, and MOSAIC's of its stuff, both kinds."""
        picture = read_rgb(photo.path)
        stuff, *theirs = self.stuff(picture, photo.street)
        if photo.mask is None:
            found, free = self.things(picture)
            all_, sure = (np.where(free, one, np.uint8(IGNORE)) for one in theirs)
            return np.where(free, stuff, found), all_, sure
        mask = np.asarray(Image.open(photo.mask)).astype(np.uint8)
        # What a mask does not say may be a thing: there both nets must see none.
        said = mask <= THINGS
        free = mask == 0 if said.all() else (mask == 0) | (~said & self.things(picture)[1])
        thing = np.where((mask > 0) & (mask <= THINGS), mask - 1, mask).astype(np.uint8)
        labels = np.where(free, stuff, np.where(mask > 0, thing, np.uint8(IGNORE)))
        all_, sure = (np.where(free, one, np.uint8(IGNORE)) for one in theirs)
        unknown = free & (labels == IGNORE) & (all_ == IGNORE) & (mask == NOT_PERSON)
        return np.where(unknown, mask, labels), all_, sure


def label(shared: Path, output: Path, part: int, parts: int) -> None:
    """Writes ``labels/``, ``mosaic/``, ``mirrored/`` and the part's tables."""
    torch.set_num_threads(1)
    teachers = Labels(shared)
    for folder in FOLDERS:
        (output / folder).mkdir(parents=True, exist_ok=True)
    tables = {name: (output / f"{name}-{part}.csv").open("w", newline="") for name in TABLES}
    writers = {name: csv.writer(file) for name, file in tables.items()}
    for number, photo in enumerate(sorted(photographs(shared, output), key=turn)):
        if number % parts != part:
            continue
        name = f"{photo.path.parent.name}_{photo.path.stem}.png"
        files = [(output / folder / name).resolve() for folder in FOLDERS]
        if not all(file.is_file() for file in (files if photo.split != "train" else files[:1])):
            for found, file in zip(teachers(photo), files, strict=True):
                Image.fromarray(found).save(file)
        for table, file in zip(TABLES, files, strict=True):
            if table == "scene" or photo.split != "train":
                writers[table].writerow([photo.path.resolve(), file, 1, photo.split])
                tables[table].flush()
    for file in tables.values():
        file.close()


TABLES = ("scene", "mosaic", "mirrored")
FOLDERS = ("labels", "mosaic", "mirrored")
"""Of the labels, and of MOSAIC's on pictures that are held back, all and the repeated ones."""


def join(output: Path) -> None:
    """Makes one table of each kind from those of the parts, and tells how much there is."""
    for name in TABLES:
        rows = [
            row
            for part in sorted(output.glob(f"{name}-*.csv"))
            for row in csv.reader(part.open(newline=""))
        ]
        with (output / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["file", "labels", "has_mask", "split"], *sorted(rows)])
        counts = {split: sum(row[3] == split for row in rows) for split in ("train", "val", "test")}
        print(name, counts)


def main(argv: Sequence[str]) -> None:
    """Labels a part, all, or joins the parts."""
    shared, output, *rest = argv
    if rest == ["join"]:
        join(Path(output))
        return
    part, parts = map(int, (rest or ["0/1"])[0].split("/"))
    label(Path(shared).resolve(), Path(output), part, parts)


if __name__ == "__main__":
    main(sys.argv[1:])
