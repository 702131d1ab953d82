"""Splats in PLY: 3DGS's own (Kerbl et al. 2023), and SuperSplat's compressed one.

Compressed: chunks of 256 splats in which each number lies between the chunk's least and most:
places in 11, 10 and 11 bits, the logarithms of scales likewise, colours and opacity in 8, and
rotations as the three smaller of four components in 10 bits and which the largest was.

Letters: ``N`` splats, ``D`` coefficients of harmonics beyond the first.
"""

from pathlib import Path
from typing import Any

import numpy as np

from cbs_core.contract.errors import SourceError
from cbs_core.machine.files import replace
from cbs_core.scene.splatting import colour_of, first_of, sigmoid
from cbs_core.scene.types import Floats, Ints, Mask, Splats

CHUNK = 256
KNOWN = (0, 3, 8, 15)
"""Coefficients of harmonics beyond the first that a degree has."""


class SplatPly:
    """3DGS's PLY (`SplatFile`).

    Args:
        path: the file.
        data: plyfile's content of it.

    Raises:
        SourceError: fields are missing, or none of its splats is made of numbers.
    """

    def __init__(self, path: Path, data: Any) -> None:
        self._data = data
        vertex = data["vertex"].data
        names = set(vertex.dtype.names)
        rest = sum(name.startswith("f_rest_") for name in names)
        if rest % 3 or rest // 3 not in KNOWN:
            raise SourceError(f"'{path}' has {rest} f_rest_ fields, which no degree has")
        self._rest = rest

        def fields(*wanted: str) -> Floats:
            if missing := [name for name in wanted if name not in names]:
                raise SourceError(f"'{path}' has splats without {missing[0]}: export it anew")
            return np.stack([vertex[name].astype(np.float64) for name in wanted], 1)

        harmonics = np.zeros((len(vertex), 0, 3))
        if rest:
            flat = fields(*(f"f_rest_{i}" for i in range(rest)))
            harmonics = flat.reshape(-1, 3, rest // 3).transpose(0, 2, 1)
        self.splats, self.left_out = checked(
            path,
            Splats(
                means=fields("x", "y", "z"),
                scales=np.exp(np.clip(fields("scale_0", "scale_1", "scale_2"), -60, 60)),
                rotations=fields("rot_0", "rot_1", "rot_2", "rot_3"),
                opacities=sigmoid(fields("opacity")[:, 0]),
                colours=colour_of(fields("f_dc_0", "f_dc_1", "f_dc_2")),
                harmonics=harmonics,
            ),
        )

    def write(self, path: Path, touched: Mask, colours: Floats, flat: bool, /) -> list[Path]:
        """Writes the file with other colours (`SplatFile`); raises `SinkError`."""
        vertex = self._data["vertex"].data.copy()
        first = first_of(colours[touched])
        for k in range(3):
            vertex[f"f_dc_{k}"][touched] = first[:, k]
        if flat:
            for i in range(self._rest):
                vertex[f"f_rest_{i}"][touched] = 0
        write(path, self._data, {"vertex": vertex})
        return [path]


class CompressedPly:
    """SuperSplat's compressed PLY (`SplatFile`).

    A chunk in which only some splats change gets a second one with other bounds of colours, so
    that those that do not change keep their bits; the places left over in both are filled with
    splats of no opacity.

    Args:
        path: the file.
        data: plyfile's content of it.

    Raises:
        SourceError: there are fewer chunks than its splats need.
    """

    def __init__(self, path: Path, data: Any) -> None:
        self._data = data
        vertex = data["vertex"].data
        names = {element.name for element in data}
        if "chunk" not in names or len(data["chunk"].data) < -(-len(vertex) // CHUNK):
            raise SourceError(f"'{path}' has fewer chunks than its {len(vertex)} splats need")
        self._bounds = data["chunk"].data
        self._of = np.arange(len(vertex)) // CHUNK
        colour = vertex["packed_color"]
        rgba = np.stack([(colour >> s & 255) / 255 for s in (24, 16, 8, 0)], 1)
        harmonics = np.zeros((len(vertex), 0, 3))
        if "sh" in names:
            held = data["sh"].data
            count = len(held.dtype.names)
            if len(held) != len(vertex) or count % 3 or count // 3 not in KNOWN:
                raise SourceError(f"'{path}' has harmonics that do not fit its splats")
            flat = np.stack([held[f"f_rest_{i}"] for i in range(count)], 1)
            flat = (np.clip((flat + 0.5) / 256, 0, 1) - 0.5) * 8
            harmonics = flat.reshape(-1, 3, count // 3).transpose(0, 2, 1)
        colours = rgba[:, :3]
        self._ranged = "min_r" in self._bounds.dtype.names
        if self._ranged:
            colours = self._between(colours, "{}_r", "{}_g", "{}_b")
        place = self._between(_fractions(vertex["packed_position"]), "{}_x", "{}_y", "{}_z")
        scale = self._between(
            _fractions(vertex["packed_scale"]), "{}_scale_x", "{}_scale_y", "{}_scale_z"
        )
        self.splats, self.left_out = checked(
            path,
            Splats(
                means=place,
                scales=np.exp(np.clip(scale, -60, 60)),
                rotations=_unpacked(vertex["packed_rotation"]),
                opacities=rgba[:, 3],
                colours=colours,
                harmonics=harmonics,
            ),
        )

    def _between(self, values: Floats, *names: str) -> Floats:
        low, high = (
            np.stack([self._bounds[n.format(end)].astype(np.float64) for n in names], 1)[self._of]
            for end in ("min", "max")
        )
        return np.asarray(low + (high - low) * values)

    def write(self, path: Path, touched: Mask, colours: Floats, flat: bool, /) -> list[Path]:
        """Writes the file with other colours (`SplatFile`); raises `SinkError`."""
        vertex = self._data["vertex"].data.copy()
        changed = {}
        if "sh" in {element.name for element in self._data}:
            held = self._data["sh"].data.copy()
            for name in held.dtype.names if flat else ():
                held[name][touched] = 128  # the nearest to 0: 0.0156
            changed["sh"] = held
        if not self._ranged:
            byte = np.round(np.clip(colours[touched], 0, 1) * 255).astype(np.uint32)
            vertex["packed_color"][touched] = _with_colour(vertex["packed_color"][touched], byte)
            write(path, self._data, {"vertex": vertex, **changed})
            return [path]
        order, owner, bounds = self._apart(touched, colours)
        real = order >= 0
        new = vertex[np.maximum(order, 0)]
        new["packed_color"][~real] &= np.uint32(0xFFFFFF00)
        for chunk in np.unique(self._of[touched]).tolist():
            for place in np.flatnonzero(owner == chunk).tolist():
                at = slice(place * CHUNK, (place + 1) * CHUNK)
                own = real[at] & touched[np.maximum(order[at], 0)]
                if not own.any():
                    continue
                rgb = colours[order[at][own]]
                low, high = rgb.min(0).astype(np.float32), rgb.max(0).astype(np.float32)
                for k, c in enumerate("rgb"):
                    bounds[f"min_{c}"][place], bounds[f"max_{c}"][place] = low[k], high[k]
                share = (rgb - low) / np.where(high > low, high - low, 1)
                byte = np.round(np.clip(share, 0, 1) * 255).astype(np.uint32)
                part = new["packed_color"][at]
                part[own] = _with_colour(part[own], byte)
        changed = {name: held[np.maximum(order, 0)] for name, held in changed.items()}
        write(path, self._data, {"vertex": new, "chunk": bounds, **changed})
        return [path]

    def _apart(self, touched: Mask, colours: Floats) -> tuple[Ints, Ints, Any]:
        """Returns the splats in their new order, -1 for a filler, and chunks with their bounds."""
        order: list[Ints] = []
        owner: list[int] = []
        count = len(self._of)
        for chunk in range(-(-count // CHUNK)):
            own = np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, count))
            parts = [own[~touched[own]], own[touched[own]]]
            parts = [part for part in parts if len(part)]
            for part in parts if len(parts) == 2 else [own]:
                order.append(np.concatenate([part, np.full(CHUNK - len(part), -1)]))
                owner.append(chunk)
        flat = np.concatenate(order)
        # The last chunk may be short.
        last = len(flat) - int(np.argmax(flat[::-1] >= 0))
        # A filler lies where a splat of its chunk lies, so that no scene grows by it.
        return flat[:last], np.array(owner), self._bounds[np.array(owner)].copy()


def _fractions(packed: Any) -> Floats:
    """Returns ``(N,3)`` in 0..1 of 11, 10 and 11 bits."""
    parts = ((packed >> 21 & 2047) / 2047, (packed >> 11 & 1023) / 1023, (packed & 2047) / 2047)
    return np.stack(parts, 1)


def _unpacked(packed: Any) -> Floats:
    """Returns quaternions ``(N,4)``, w x y z."""
    parts = np.stack([(packed >> s & 1023) / 1023 for s in (20, 10, 0)], 1)
    smaller = (parts - 0.5) * np.sqrt(2)
    largest = (packed >> 30).astype(np.int64)
    rest = np.sqrt(np.maximum(0, 1 - (smaller**2).sum(1)))
    out = np.empty((len(packed), 4))
    for k in range(4):
        own = largest == k
        out[own, k] = rest[own]
        out[np.ix_(own, [i for i in range(4) if i != k])] = smaller[own]
    return out


def _with_colour(packed: Any, byte: Any) -> Any:
    kept = packed & np.uint32(0xFF)
    return (
        kept
        | byte[:, 0] << np.uint32(24)
        | byte[:, 1] << np.uint32(16)
        | byte[:, 2] << np.uint32(8)
    )


def write(path: Path, data: Any, changed: dict[str, Any]) -> None:
    """Writes a PLY whose elements are as they were, but for those given."""
    from plyfile import PlyData, PlyElement

    elements = [
        PlyElement.describe(changed[e.name], e.name, comments=list(e.comments))
        if e.name in changed
        else e
        for e in data
    ]
    new = PlyData(
        elements,
        text=data.text,
        byte_order=data.byte_order,
        comments=list(data.comments),
        obj_info=list(data.obj_info),
    )
    replace(path, new.write)


def checked(path: Path, splats: Splats) -> tuple[Splats, tuple[str, ...]]:
    """Returns the splats with those that hold no numbers made invisible, and what to say of them.

    Raises:
        SourceError: none is left.
    """
    parts = (splats.means, splats.scales, splats.rotations, splats.colours)
    whole = np.isfinite(splats.opacities)
    for part in parts:
        whole &= np.isfinite(part).all(1)
    whole &= np.linalg.norm(np.nan_to_num(splats.rotations), axis=1) > 0
    if not whole.any():
        raise SourceError(f"'{path}' holds no splats made of numbers: export it anew")
    if whole.all():
        return splats, ()
    blank = np.where(whole, splats.opacities, 0)
    turn = np.where(whole[:, None], splats.rotations, [1.0, 0, 0, 0])
    middle = splats.means[whole].mean(0)
    clean = Splats(
        means=np.where(whole[:, None], splats.means, middle),
        scales=np.where(whole[:, None], splats.scales, 1e-6),
        rotations=turn,
        opacities=blank,
        colours=np.where(whole[:, None], splats.colours, 0.5),
        harmonics=np.nan_to_num(splats.harmonics),
        up=splats.up,
    )
    return clean, (f"{(~whole).sum()} splats are not made of numbers",)
