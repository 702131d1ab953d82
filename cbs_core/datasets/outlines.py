"""Sets whose labels are outlines of objects in text files: COCO and YOLO segmentation.

Where two objects overlap, the smaller one is in front.

Letters: ``H W`` the picture.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cbs_core.choose import userfiles
from cbs_core.contract.errors import ConfigError, SourceError
from cbs_core.machine.inputs import picture_formats, refuse_pipe

BACKGROUND = "background"
"""The class of pixels of no object, id 0, of sets that have objects alone."""

VOID = 255
"""The label of pixels of nothing that is known."""

MOST = 254
"""Classes that labels of 8 bits can tell apart."""

Labels = NDArray[np.uint8]


class DamagedError(ConfigError):
    """Annotations are there and cannot be read."""


@dataclass(frozen=True, slots=True)
class Outlined:
    """A set of outlines."""

    layout: str
    """``coco``, ``panoptic`` or ``yolo``."""

    classes: tuple[str, ...]
    pairs: tuple[tuple[Path, Path], ...]
    """Each picture and the file that holds its labels."""

    read: Callable[[Path, Path], Labels]
    """Takes a pair, returns ids ``(H,W)``: of `classes`, or `VOID`."""


def found(root: Path, split: str | None) -> Outlined | None:
    """Returns the set of outlines that lies at a place; None where there is none.

    Args:
        root: the set's folder, or COCO's JSON file itself.
        split: which, of a folder; None for the file.

    Raises:
        ConfigError: there is one that cannot be read.
    """
    if root.suffix == ".json" and root.is_file():
        return _coco(root, root.parent.parent)
    if split is None or not root.is_dir():
        return None
    for kind in ("panoptic", "instances"):
        for name in (split, f"{split}2017"):
            file = root / "annotations" / f"{kind}_{name}.json"
            if file.is_file():
                return _coco(file, root)
    return _yolo(root, split)


class Coco:
    """COCO's annotations of a split: instances, or panoptic segments.

    Args:
        file: ``annotations/instances_train2017.json`` or the like.

    Raises:
        DamagedError: it cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        refuse_pipe(file)
        try:
            self.content: dict[str, Any] = json.loads(file.read_bytes())
            self.images = {int(one["id"]): one for one in self.content["images"]}
            named = {int(one["id"]): str(one["name"]) for one in self.content["categories"]}
            # By number: files of two splits may list them in another order.
            self.categories = dict(sorted(named.items()))
            self.annotations: dict[int, list[dict[str, Any]]] = {}
            for one in self.content["annotations"]:
                self.annotations.setdefault(int(one["image_id"]), []).append(one)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"'{file}' holds no annotations of COCO ({error!r})") from error
        if len(self.categories) > MOST:
            raise DamagedError(
                f"'{file}' has {len(self.categories)} categories, and {MOST} at most are read"
            )

    @cached_property
    def panoptic(self) -> bool:
        """Whether annotations tell of pictures of segments."""
        return any("segments_info" in one for one in self.content["annotations"])

    @cached_property
    def by_name(self) -> dict[str, int]:
        """Numbers of pictures by the names that they have in the file, without ``./``."""
        names = ((str(one["file_name"]), number) for number, one in self.images.items())
        return {PurePosixPath(name).as_posix(): number for name, number in names}

    @property
    def segments(self) -> Path:
        """The folder of the pictures of segments."""
        return self.file.with_suffix("")

    def segment_file(self, image: int) -> Path:
        """Returns a picture's picture of segments."""
        (one,) = self.annotations[image]
        return self.segments / str(one["file_name"])

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names by id: of instances `BACKGROUND` is one, the first where the file has none."""
        names = tuple(self.categories.values())
        return names if self.panoptic or BACKGROUND in names else (BACKGROUND, *names)

    def labels(self, image: int) -> Labels:
        """Returns a picture's labels ``(H,W)``.

        Raises:
            SourceError: they cannot be read.
        """
        ids = {category: self.classes.index(name) for category, name in self.categories.items()}
        try:
            return self._segments(image, ids) if self.panoptic else self._instances(image, ids)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            name = self.images[image]["file_name"]
            raise SourceError(f"'{self.file}': annotations of '{name}': {error!r}") from error

    def _segments(self, image: int, ids: Mapping[int, int]) -> Labels:
        (one,) = self.annotations[image]
        with Image.open(self.segment_file(image), formats=picture_formats()) as picture:
            colours = np.asarray(picture.convert("RGB")).astype(np.uint32)
        segments = colours[..., 0] + (colours[..., 1] << 8) + (colours[..., 2] << 16)
        labels = np.full(segments.shape, VOID, np.uint8)
        for segment in one["segments_info"]:
            labels[segments == segment["id"]] = ids[int(segment["category_id"])]
        return labels

    def _instances(self, image: int, ids: Mapping[int, int]) -> Labels:
        entry = self.images[image]
        size = int(entry["height"]), int(entry["width"])
        labels = np.full(size, self.classes.index(BACKGROUND), np.uint8)
        masks = [
            (_mask(one["segmentation"], *size), ids[int(one["category_id"])])
            for one in self.annotations.get(image, ())
        ]
        for mask, label in sorted(masks, key=lambda one: -int(one[0].sum())):
            labels[mask] = label
        return labels


def _mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Returns the pixels of an object, by COCO's own code.

    Raises:
        ConfigError: that is not installed.
    """
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise ConfigError(
            "COCO's outlines are read by pycocotools: pip install 'class-based-styling[coco]'"
        ) from error
    runs = segmentation
    if isinstance(segmentation, list) or isinstance(segmentation["counts"], list):
        runs = coco.frPyObjects(segmentation, height, width)
    decoded = np.asarray(coco.decode(runs))
    return np.asarray(decoded.reshape(height, width, -1).astype(bool).any(axis=2))


def coco_of(file: Path) -> Coco:
    """Returns COCO's annotations of a file; those of the last ones are kept, as they may be large.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        stat = file.stat()
    except OSError as error:
        raise ConfigError(f"'{file}' cannot be read ({error.strerror})") from error
    return _kept(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=2)
def _kept(file: Path, time: int, size: int) -> Coco:
    return Coco(file)


def _coco(file: Path, root: Path) -> Outlined:
    coco = coco_of(file)
    split = file.stem.partition("_")[2]
    places = [root / split, root / "images" / split, root / "images", root / f"{split}2017", root]
    number: dict[Path, int] = {}
    for image, entry in coco.images.items():
        name = str(entry["file_name"])
        path = next((folder / name for folder in places if (folder / name).is_file()), None)
        if path is not None and (not coco.panoptic or image in coco.annotations):
            number[path] = image

    def read(picture: Path, labels: Path) -> Labels:
        return coco.labels(number[picture])

    layout = "panoptic" if coco.panoptic else "coco"
    return Outlined(layout, coco.classes, tuple((path, file) for path in number), read)


def _yolo(root: Path, split: str) -> Outlined | None:
    known = (split, "valid") if split == "val" else (split,)
    folders = next(
        (
            pair
            for name in known
            for pair in (
                (root / "images" / name, root / "labels" / name),
                (root / name / "images", root / name / "labels"),
            )
            if all(folder.is_dir() for folder in pair) and any(pair[1].glob("*.txt"))
        ),
        None,
    )
    if folders is None:
        return None
    classes = (BACKGROUND, *_names(root))
    pictures, labels = folders
    pairs = [(path, labels / f"{path.stem}.txt") for path in sorted(pictures.iterdir())]

    def read(picture: Path, outlines: Path) -> Labels:
        with Image.open(picture, formats=picture_formats()) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            width, height = image.size[::-1] if turned else image.size
        return drawn(list(_polygons(outlines, len(classes) - 1)), (height, width))

    return Outlined("yolo", classes, tuple(pairs), read)


def yaml_of(root: Path) -> Path:
    """Returns the file that names the classes of a YOLO set.

    Raises:
        ConfigError: there is none.
    """
    for file in sorted((*root.glob("*.yaml"), *root.glob("*.yml"))):
        if file.is_file():  # a pipe would never be read to its end
            with file.open(encoding="utf-8", errors="replace") as opened:
                if "names:" in opened.read(userfiles.SIZE):
                    return file
    raise ConfigError(f"nothing names the classes of '{root}': a data.yaml with names: does")


def _names(root: Path) -> list[str]:
    file = yaml_of(root)
    try:
        names: Any = userfiles.values(file)["names"]  # type: ignore[index]
        if isinstance(names, Mapping):
            names = [names[key] for key in sorted(names, key=int)]
        return [str(name) for name in names]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"'{file}' names no classes ({error!r}): names: a list is due") from error


def _polygons(file: Path, classes: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yields the class and the points ``(N,2)``, x and y in [0,1], of each object of a file.

    Raises:
        SourceError: a line is of another form.
    """
    refuse_pipe(file)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"'{file}' cannot be read ({error})") from error
    for place, line in enumerate(lines, 1):
        try:
            name, *numbers = line.split() or ["", ""]
            if not name:
                continue
            points = np.array([float(number) for number in numbers])
            label = int(name)
        except ValueError as error:
            raise SourceError(f"'{file}', line {place}: no outline ({error})") from error
        if len(points) == 4:
            raise SourceError(f"'{file}', line {place}: a box, where an outline is due")
        if len(points) < 6 or len(points) % 2 or not 0 <= label < classes:
            raise SourceError(
                f"'{file}', line {place}: a class below {classes} and x y of three points or more "
                "are due"
            )
        yield label, points.reshape(-1, 2)


def drawn(
    polygons: Sequence[tuple[int, NDArray[np.float64]]], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Returns labels ``(H,W)`` of outlines: 0 where there is none, else the class and 1.

    Args:
        polygons: class and points ``(N,2)``, x and y in [0,1].
        size: H and W.
    """
    labels = Image.new("L", (size[1], size[0]), 0)
    pen = ImageDraw.Draw(labels)
    for label, points in sorted(polygons, key=lambda one: -_area(one[1])):
        corners = points * (size[1], size[0]) - 0.5
        pen.polygon([(float(x), float(y)) for x, y in corners], fill=label + 1)
    return np.asarray(labels)


def _area(points: NDArray[np.float64]) -> float:
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
