"""The flow between pictures whose motion is known."""

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from cbs_core.temporal.flow import flow, pyramid, warped
from cbs_core.testing import no_device_wait


def texture(height, width, seed=0):
    """Smooth noise, ``(1,3,H,W)`` in [0,1], with detail at several scales."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(3, height, width, generator=generator).numpy()
    layers = [torch.from_numpy(gaussian_filter(noise, (0, s, s))) * s for s in (2, 4, 8)]
    picture = torch.stack(layers).sum(0)[None]
    return ((picture - picture.mean()) / picture.std() / 6 + 0.5).clamp(0, 1)


def moved(still, x, y, height=128, width=256):
    """Cuts a window out of a still; its content moves by (-x, -y) from where x and y are 0."""
    top, left = (still.shape[2] - height) // 2 + y, (still.shape[3] - width) // 2 + x
    return still[..., top : top + height, left : left + width]


def between(now, before):
    return flow(pyramid(now), pyramid(before))


def errors(found, x, y):
    """Returns the distance of each pixel's flow from (x, y)."""
    return (found - torch.tensor([x, y]).view(2, 1, 1)).norm(dim=1)


@pytest.mark.parametrize(("x", "y"), [(1, 0), (0, -3), (7, 5), (-16, 11)])
def test_a_translation_is_found_within_a_fraction_of_a_pixel(x, y):
    still = texture(240, 400)
    off = errors(between(moved(still, x, y), moved(still, 0, 0)), x, y)
    assert off.median() < 0.05
    # Also where the picture shows what it did not show before.
    assert off.quantile(0.9) < 0.5


def test_motion_of_less_than_a_pixel_is_found():
    still = texture(4 * 240, 4 * 400)
    now, before = (
        F.avg_pool2d(moved(still, x, 0, 4 * 128, 4 * 256), 4) for x in (1, 0)
    )  # a quarter of a pixel
    assert errors(between(now, before), 0.25, 0).quantile(0.95) < 0.1


def test_a_large_frame_is_measured_small():
    still = texture(640, 1200)
    now, before = moved(still, 18, -12, 512, 1024), moved(still, 0, 0, 512, 1024)
    found = between(now, before)
    assert found.shape == (1, 2, 128, 256)
    assert errors(found, 18 / 4, -12 / 4).quantile(0.95) < 0.25


def test_two_motions_in_one_picture():
    back, square = texture(128, 256), texture(64, 64, seed=1)

    def frame(x):
        out = back.clone()
        out[..., 40:104, x : x + 64] = square
        return out

    found = between(frame(88), frame(80))
    inside = errors(found[..., 48:96, 96:128], -8, 0)
    assert inside.median() < 0.2
    assert inside.quantile(0.9) < 1
    outside = torch.cat([found[..., :60].flatten(2), found[..., 180:].flatten(2)], 2)
    assert outside.norm(dim=1).quantile(0.95) < 0.2


def test_without_texture_the_neighbours_motion_is_taken_over():
    still = texture(240, 400)
    still[..., 110:134, 188:212] = 0.5
    found = between(moved(still, 6, 0), moved(still, 0, 0))
    flat = errors(found[..., 54:78, 116:140], 6, 0)
    assert flat.max() < 0.5


def test_the_same_picture_does_not_move():
    still = texture(128, 256)
    assert between(still, still).abs().max() < 1e-3
    picture = torch.rand(1, 5, 18, 32)
    torch.testing.assert_close(warped(picture, between(still, still)), picture, atol=1e-3, rtol=0)


@pytest.mark.parametrize("still", [texture(128, 256), torch.full((1, 3, 128, 256), 0.5)])
def test_noise_is_no_motion(still):
    generator = torch.Generator().manual_seed(1)
    now, before = (still + 0.01 * torch.randn(still.shape, generator=generator) for _ in range(2))
    found = between(now, before)
    assert found.norm(dim=1).mean() < 0.1
    assert found.norm(dim=1).max() < 0.5


def test_each_picture_of_a_batch_moves_by_itself():
    still = texture(240, 400)
    before = moved(still, 0, 0)
    now = [moved(still, 5, 0), moved(still, 0, -9)]
    together = between(torch.cat(now), before.expand(2, -1, -1, -1))
    alone = torch.cat([between(one, before) for one in now])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2), (33, 31), (17, 300)])
def test_any_size_has_a_flow(size):
    now, before = torch.rand(2, 1, 3, *size)
    found = between(now, before)
    assert found.isfinite().all()
    assert warped(before, found).shape == (1, 3, *size)


def test_warping_moves_a_picture_and_continues_its_edge():
    picture = torch.rand(1, 2, 6, 8)
    motion = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 6, 8)
    rows, columns = (torch.arange(6) - 2).clamp(0, 5), (torch.arange(8) + 3).clamp(0, 7)
    want = picture[..., rows, :][..., columns]
    torch.testing.assert_close(warped(picture, motion), want, atol=1e-5, rtol=0)


def test_a_flow_holds_at_other_sizes():
    motion = torch.tensor([1.0, -0.5]).view(1, 2, 1, 1).expand(1, 2, 12, 16)
    picture = torch.rand(1, 2, 24, 64)
    want = picture[..., (torch.arange(24) - 1).clamp(0, 23), :]
    want = want[..., (torch.arange(64) + 4).clamp(0, 63)]
    torch.testing.assert_close(warped(picture, motion), want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_warping_gives_float32(dtype):
    picture = torch.rand(1, 2, 6, 8).to(dtype)
    out = warped(picture, torch.zeros(1, 2, 6, 8))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, picture.float(), atol=1e-5, rtol=0)


@pytest.mark.cuda
def test_nothing_waits_for_the_device():
    now, before = torch.rand(2, 1, 3, 128, 256, device="cuda")
    with no_device_wait("cuda"):
        found = between(now, before)
        out = warped(before, found)
    want = between(now.cpu(), before.cpu())
    # Where two displacements match equally well, rounding decides.
    close = (found.cpu() - want).abs() < 1e-2
    assert close.float().mean() > 0.999
    assert out.is_cuda
