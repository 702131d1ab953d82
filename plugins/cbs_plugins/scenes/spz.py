"""SPZ (Niantic, MIT): splats in fixed point, as one gzip stream (1 to 3) or zstd streams (4).

The streams are kept as they are read, and only bytes of colours change.

Letters: ``N`` splats, ``D`` coefficients of harmonics beyond the first.
"""

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np

from cbs_core.contract.errors import SourceError
from cbs_core.machine.files import replace
from cbs_core.scene.rays import needs
from cbs_core.scene.splatting import colour_of, first_of
from cbs_core.scene.types import Bytes, Floats, Mask, Splats
from cbs_plugins.scenes.splat_ply import KNOWN, checked
from cbs_plugins.scenes.textures import read

MAGIC = b"NGSP"
COLOUR = 0.15
"""Of the first coefficients: byte = 255 (0.15 f + 0.5)."""

MOST = 20_000_000
"""Splats that a header may claim: the largest scenes that are published have half as many."""

MOST_GROWTH = 100
"""Times its size that a file may unpack to. Real ones have 1.4 to some 5: what has a thousand was
made to fill the memory."""

SMALL = 2**24
"""Bytes that any file may unpack to, and that may follow its splats."""

PARTS = ("positions", "alphas", "colours", "scales", "rotations", "harmonics")


class SpzScene:
    """An SPZ file (`SplatFile`); right, up and back are its axes.

    Args:
        path: the file.

    Raises:
        SourceError: it is damaged, or of a version that is not known.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        data = read(self.path)
        try:
            self._zipped = data[:4] != MAGIC
            self._take(*(self._one_stream(data) if self._zipped else self._streams(data)))
        except (ValueError, IndexError, struct.error, EOFError, OSError, zlib.error) as error:
            raise SourceError(
                f"'{path}' is no whole SPZ ({' '.join(str(error).split())}): get the file again"
            ) from error
        self.splats, self.left_out = checked(self.path, self._splats())

    def _one_stream(self, data: bytes) -> tuple[bytes, list[bytes]]:
        with gzip.open(io.BytesIO(data)) as stream:
            header = stream.read(16)
            sizes = self._sizes(header, len(data))
            body = stream.read(sum(sizes) + SMALL + 1)
        if len(body) < sum(sizes):
            raise ValueError(f"{len(body)} bytes of {sum(sizes)} are there")
        if len(body) > sum(sizes) + SMALL:
            raise ValueError(f"more than {SMALL >> 20} MiB follow its splats")
        ends = np.cumsum(sizes).tolist()
        self._rest = body[ends[-1] :]
        return header, [body[end - size : end] for end, size in zip(ends, sizes, strict=True)]

    def _streams(self, data: bytes) -> tuple[bytes, list[bytes]]:
        try:
            import zstandard
        except ImportError as error:
            raise needs("zstandard") from error
        header, count = data[:16], data[15]
        sizes = self._sizes(header, len(data))
        (at,) = struct.unpack_from("<I", data, 16)
        told = [struct.unpack_from("<QQ", data, at + 16 * i) for i in range(count)]
        if count < sum(size > 0 for size in sizes):
            raise ValueError(f"it has {count} streams")
        self._head = data[:at]
        start = at + 16 * count
        out: list[bytes] = []
        self._packed: list[bytes] = []
        for size in (size for size in sizes if size):
            packed, unpacked = told[len(out)]
            if unpacked != size or start + packed > len(data):
                raise ValueError("a stream is cut off, or of another length than its splats need")
            self._packed.append(data[start : start + packed])
            try:
                # Of what a stream itself says of its length nothing is believed.
                with zstandard.ZstdDecompressor().stream_reader(self._packed[-1]) as stream:
                    part = stream.read(size + 1)
            except zstandard.ZstdError as error:
                raise ValueError(f"a stream is damaged: {error}") from error
            if len(part) != size:
                raise ValueError("a stream is shorter or longer than it says")
            out.append(part)
            start += packed
        self._tail = data[start:]
        self._more = told[len(out) :]
        return header, out

    def _sizes(self, header: bytes, packed: int) -> list[int]:
        """Returns the bytes of each part; raises where they are more than such a file can hold."""
        magic, version, count, degree, bits, _, _ = struct.unpack("<4sIIBBBB", header)
        if magic != MAGIC or not 1 <= version <= 4 or (version == 4) == self._zipped:
            raise ValueError("its header is unknown")
        if not 0 < count <= MOST or degree > 3 or bits > 23 or version == 1:
            raise ValueError(f"it claims {count} splats of degree {degree}, version {version}")
        self.version, self.count, self.bits = version, count, bits
        self.degree = KNOWN[degree]
        turn = 3 if version < 3 else 4
        sizes = [9 * count, count, 3 * count, 3 * count, turn * count, 3 * self.degree * count]
        if sum(sizes) > max(SMALL, MOST_GROWTH * packed):
            raise ValueError(
                f"its {packed} bytes claim {count} splats of {sum(sizes) >> 20} MiB, more than any "
                "scene is packed to"
            )
        return sizes

    def _take(self, header: bytes, parts: list[bytes]) -> None:
        self._header = header
        self._parts: dict[str, Bytes] = {
            name: np.frombuffer(part, np.uint8).reshape(self.count, -1)
            for name, part in zip(PARTS, parts, strict=False)
            if part
        }

    def _splats(self) -> Splats:
        parts = self._parts
        low = parts["positions"].reshape(-1, 3, 3).astype(np.int32)
        fixed = low[..., 0] | low[..., 1] << 8 | low[..., 2] << 16
        fixed = fixed - ((fixed & 0x800000) << 1)
        harmonics = np.zeros((self.count, 0, 3))
        if self.degree:
            held = parts["harmonics"].reshape(self.count, self.degree, 3)
            harmonics = (held.astype(np.float64) - 128) / 128
        turn = parts["rotations"]
        return Splats(
            means=fixed / (1 << self.bits),
            scales=np.exp(parts["scales"].astype(np.float64) / 16 - 10),
            rotations=_three(turn) if self.version < 3 else _smallest(turn),
            opacities=parts["alphas"][:, 0] / 255,
            colours=colour_of((parts["colours"] / 255 - 0.5) / COLOUR),
            harmonics=harmonics,
            up=(0.0, 1.0, 0.0),
        )

    def write(self, path: Path, touched: Mask, colours: Floats, flat: bool, /) -> list[Path]:
        """Writes the file with other colours (`SplatFile`); raises `SinkError`."""
        parts = dict(self._parts)
        new = parts["colours"].copy()
        value = (first_of(colours[touched]) * COLOUR + 0.5) * 255
        new[touched] = np.round(np.clip(value, 0, 255)).astype(np.uint8)
        parts["colours"] = new
        if flat and "harmonics" in parts:
            held = parts["harmonics"].copy()
            held[touched] = 128
            parts["harmonics"] = held
        body = [part.tobytes() for part in parts.values()]
        if self._zipped:
            whole = self._header + b"".join(body) + self._rest
            content = gzip.compress(whole, mtime=0)
        else:
            content = self._assembled(list(parts), body)
        replace(path, lambda file: file.write(content))
        return [path]

    def _assembled(self, names: list[str], body: list[bytes]) -> bytes:
        import zstandard

        packer = zstandard.ZstdCompressor(level=12)
        changed = ("colours", "harmonics")
        packed = [
            packer.compress(part) if name in changed else old
            for name, part, old in zip(names, body, self._packed, strict=True)
        ]
        table = [(len(one), len(part)) for one, part in zip(packed, body, strict=True)]
        rows = b"".join(struct.pack("<QQ", *row) for row in (*table, *self._more))
        return self._head + rows + b"".join(packed) + self._tail


def _three(packed: Bytes) -> Floats:
    """Returns quaternions w x y z of bytes x y z, w not negative."""
    xyz = packed.astype(np.float64) / 127.5 - 1
    w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(1)))
    return np.concatenate([w[:, None], xyz], 1)


def _smallest(packed: Bytes) -> Floats:
    """Returns quaternions w x y z of the three smaller components, ten bits each with a sign."""
    word = packed.reshape(-1, 4).copy().view("<u4")[:, 0]
    largest = (word >> 30).astype(np.int64)
    out = np.zeros((len(word), 4))  # x y z w
    for k in range(4):
        own = largest == k
        bits = word[own].copy()
        total = np.zeros(len(bits))
        for i in (i for i in (3, 2, 1, 0) if i != k):
            size = (bits & 511) / 511 * np.sqrt(0.5)
            out[own, i] = np.where(bits >> 9 & 1, -size, size)
            total += size**2
            bits >>= 10
        out[own, k] = np.sqrt(np.maximum(0, 1 - total))
    return out[:, [3, 0, 1, 2]]
