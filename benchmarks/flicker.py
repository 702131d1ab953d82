"""``python -m benchmarks.flicker``: how a still scene flickers, by whose statistics it is styled.

Two scenes of the sample photograph `cat`, 256x384, seen by a sensor of which each value has noise
of 2/255: in one nothing moves, in the other a disc crosses the lower half. The flicker is the mean
absolute difference of neighbouring frames, in levels of 255, of the upper quarter, which lies
farther from the disc than a style reaches.
"""

import sys

import numpy as np
import torch
from cbs_plugins.sources.sample import sample_file
from cbs_plugins.stylers.johnson import JohnsonStyler
from PIL import Image
from torch import Tensor

from cbs_core.choose import weights

HEIGHT, WIDTH = 256, 384
FRAMES = 16
NOISE = 2 / 255
RADIUS = 30
TOP = HEIGHT - 1.5 * RADIUS
"""Row of the disc's middle."""

STILL = HEIGHT // 4
"""Rows that nothing moves in."""

STYLES = weights.names("johnson")


def main() -> int:
    """Measures and prints."""
    print("| style | nothing moves: frame | frozen | something moves: frame | frozen |")
    print("|---|---|---|---|---|")
    for name in STYLES:
        styler = JohnsonStyler(style=name).eval()
        assert TOP - RADIUS - styler.halo > STILL, "what moves would be seen there"
        figures = [
            f"{value:.2f}" for moves in (False, True) for value in flicker(styler, clip(moves))
        ]
        print(f"| {name} | {' | '.join(figures)} |", flush=True)
    return 0


def clip(moves: bool, noise: float = NOISE) -> list[Tensor]:
    """Returns frames ``(1,3,H,W)`` of a still scene, or of one that a disc crosses."""
    picture = Image.open(sample_file("cat")).convert("RGB").resize((WIDTH, HEIGHT))
    still = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    generator = torch.Generator().manual_seed(0)
    frames = []
    for index in range(FRAMES):
        frame = still.clone()
        if moves:
            left = WIDTH * index / (FRAMES - 1)
            frame[..., (rows - TOP) ** 2 + (columns - left) ** 2 < RADIUS**2] = 1
        seen = frame + noise * torch.randn(frame.shape, generator=generator)
        frames.append(seen.clamp(0, 1).mul(255).round() / 255)
    return frames


@torch.inference_mode()
def flicker(styler: JohnsonStyler, frames: list[Tensor]) -> tuple[float, float]:
    """Returns that by each frame's own statistics, and by the first frame's."""
    dense, window = styler.dense_module(), styler.window_module()
    statistics = dense(frames[0])[1]
    own = [dense(frame)[0] for frame in frames]
    frozen = [window(frame, statistics) for frame in frames]
    return _difference(own), _difference(frozen)


def _difference(styled: list[Tensor]) -> float:
    pictures = 255 * torch.cat(styled)[:, :, :STILL]
    return float((pictures[1:] - pictures[:-1]).abs().mean())


if __name__ == "__main__":
    sys.exit(main())
