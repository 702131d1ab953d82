"""``.splat`` (antimatter15): 32 bytes a splat, without harmonics."""

from pathlib import Path

import numpy as np

from cbs_core.contract.errors import SourceError
from cbs_core.machine.files import replace
from cbs_core.scene.types import Floats, Mask, Splats
from cbs_plugins.scenes.splat_ply import checked
from cbs_plugins.scenes.textures import read

ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("turn", "u1", 4)])


class SplatScene:
    """A ``.splat`` file (`SplatFile`).

    Args:
        path: the file.

    Raises:
        SourceError: its length is no multiple of 32.
    """

    def __init__(self, path: str) -> None:
        data = read(Path(path))
        if len(data) % ROW.itemsize:
            raise SourceError(
                f"'{path}' has {len(data)} bytes, no multiple of 32: it is cut off, get it again"
            )
        self._rows = np.frombuffer(data, ROW)
        self.splats, self.left_out = checked(
            Path(path),
            Splats(
                means=self._rows["mean"].astype(np.float64),
                scales=np.maximum(self._rows["scale"].astype(np.float64), 1e-12),
                rotations=(self._rows["turn"].astype(np.float64) - 128) / 128,
                opacities=self._rows["rgba"][:, 3] / 255,
                colours=self._rows["rgba"][:, :3] / 255,
                harmonics=np.zeros((len(self._rows), 0, 3)),
            ),
        )

    def write(self, path: Path, touched: Mask, colours: Floats, flat: bool, /) -> list[Path]:
        """Writes the file with other colours (`SplatFile`); raises `SinkError`."""
        rows = self._rows.copy()
        byte = np.round(np.clip(colours[touched], 0, 1) * 255).astype(np.uint8)
        rows["rgba"][np.flatnonzero(touched)[:, None], np.arange(3)] = byte
        replace(path, lambda file: file.write(rows.tobytes()))
        return [path]
