"""Whether a faster module computes what it is to: compared with eager float32 on a real frame.

A styler's picture must have a PSNR of at least `PSNR`. A segmenter's logits are resized to the
frame, as the core resizes them, and the label maps must agree in `IOU`: the IoU of each class
weighted by its share of the frame (the frequency weighted IoU of Long et al. 2015, 1411.4038). In
the plain mean a class of twenty pixels would count as much as the road, and two pixels of it that
were undecided anyway would refuse a good module.

Letters: ``B`` batch, ``K`` classes, ``H W`` the frame, ``h w`` a model's output.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cbs_core.contract.accelerated import Kind
from cbs_core.contract.tensors import to_size

PSNR = 35.0
"""Decibels, of a signal of 1; for what a module returns beside its picture, of the root mean
square of the signal."""

IOU = 0.995
"""Of the label maps, each class weighted by its pixels."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found."""

    passed: bool
    words: str
    """``PSNR 41.2 dB``"""


def compare(kind: Kind, have: Any, want: Any, size: tuple[int, int]) -> Verdict:
    """Compares what a faster module returned with what the module itself returns.

    Args:
        kind: what the module is for.
        have: a tensor or a tuple of tensors, float32.
        want: the same of the module, whose form is not judged here.
        size: H and W of the frame.
    """
    ours = have if isinstance(have, tuple) else (have,)
    theirs = want if isinstance(want, tuple) else (want,)
    if _forms(ours) != _forms(theirs):
        return Verdict(False, f"it returned {_forms(ours)} where {_forms(theirs)} is due")
    if not all(isinstance(one, Tensor) for one in theirs):
        return Verdict(False, "the module returns no tensors, which only eager can pass on")
    if not all(bool(torch.isfinite(one).all()) for one in ours):
        return Verdict(False, "it returned infinite values or none")
    if kind == "segmenter" and theirs[0].ndim == 4:
        first = _labels_agree(ours[0], theirs[0], size)
    else:
        first = _close(ours[0], theirs[0], 1.0)
    rest = [_close(a, b, _rms(b)) for a, b in zip(ours[1:], theirs[1:], strict=True)]
    # The first is what a person sees; of the others only one that fails is worth words.
    return next((verdict for verdict in (first, *rest) if not verdict.passed), first)


def _labels_agree(have: Tensor, want: Tensor, size: tuple[int, int]) -> Verdict:
    ours, theirs = (to_size(logits, size).argmax(1) for logits in (have, want))
    classes = want.shape[1]
    # One pass over the pixels: how often each pair of labels occurs.
    pairs = torch.bincount((theirs * classes + ours).flatten(), minlength=classes**2)
    table = pairs.view(classes, classes).double()
    true, found = table.sum(1), table.sum(0)
    iou = table.diagonal() / (true + found - table.diagonal()).clamp_(min=1)
    value = float((true * iou).sum() / true.sum())
    return Verdict(value >= IOU, f"IoU {value:.4f} (allowed: {IOU})")


def _close(have: Tensor, want: Tensor, signal: float) -> Verdict:
    error = float((have.double() - want.double()).square().mean())
    psnr = math.inf if error == 0 else 10 * math.log10(max(signal**2, 1e-30) / error)
    return Verdict(psnr >= PSNR, f"PSNR {psnr:.1f} dB (allowed: {PSNR:.0f})")


def _rms(signal: Tensor) -> float:
    return float(signal.double().square().mean().sqrt())


def _forms(values: tuple[Any, ...]) -> str:
    return " and ".join(
        "x".join(map(str, v.shape)) if isinstance(v, Tensor) else type(v).__name__ for v in values
    )
