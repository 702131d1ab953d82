"""Pictures to tensors and back, and scores to a picture's size."""

import numpy as np
import torch
import torch.nn.functional as F

from cbs_core.contract.tensors import to_image, to_pixels, to_size


def test_pixels_come_back_as_they_were():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(16, 16, 3)
    image = to_image(pixels)
    assert image.shape == (1, 3, 16, 16)
    assert image.dtype == torch.float32
    assert (float(image.min()), float(image.max())) == (0.0, 1.0)
    want = pixels.numpy().astype(np.float32) / np.float32(255)
    assert np.array_equal(image[0].permute(1, 2, 0).numpy(), want)
    back = to_pixels(image)
    assert torch.equal(back, pixels)
    assert back.is_contiguous()


def test_they_are_new_tensors():
    pixels = torch.full((4, 5, 3), 200, dtype=torch.uint8)
    image = to_image(pixels)
    before = image.clone()
    to_pixels(image)
    assert torch.equal(image, before)
    assert bool((pixels == 200).all())
    assert image.is_contiguous(memory_format=torch.channels_last)


def test_what_is_no_colour_is_cut_off():
    assert to_pixels(torch.tensor([-0.5, 0.5, 2.0]).view(1, 3, 1, 1)).flatten().tolist() == [
        *(0, 128, 255)
    ]


def test_scores_are_resized_in_float():
    scores = torch.randn(2, 5, 6, 8)
    want = F.interpolate(scores.half().float(), (13, 17), mode="bilinear", align_corners=False)
    have = to_size(scores.half(), torch.Size((13, 17)))
    assert have.dtype == torch.float32
    assert torch.equal(have, want)
