"""The losses that segmenters are trained with.

Letters: ``B`` batch, ``K`` classes, ``H W`` the picture.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cbs_core.contract.tensors import to_size
from cbs_core.datasets.labelled import IGNORE, NOT_PERSON

KEPT = 16
"""Of so many pixels the hardest one is kept, however easy it is."""


def class_weights(frequencies: Sequence[float]) -> list[float]:
    """Returns ``1 / ln(1.10 + f)`` for each class's share f of the labelled pixels, in [0,1].

    Source: Paszke et al. 2016 (ENet, 1606.02147), section 5.2, with DABNet's constant.

    Example:
        >>> [round(weight, 2) for weight in class_weights([1.0, 0.0])]
        [1.35, 10.49]
    """
    return [1 / math.log(1.10 + frequency) for frequency in frequencies]


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, *, ohem: float | None = None
) -> Tensor:
    """Returns the mean cross entropy over the labelled pixels, or over the hard ones; 0 of none.

    Args:
        logits: ``(B,K,H,W)``.
        labels: int64 ``(B,H,W)``; `IGNORE` and `NOT_PERSON` count for nothing.
        weights: ``(K,)``, of the classes.
        ohem: only pixels whose class is given less than this probability count, and in any case
            the hardest 1 in `KEPT` (online hard example mining; Shrivastava et al. 2016). None
            counts all.
    """
    labels = torch.where(labels == NOT_PERSON, IGNORE, labels)
    losses = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE, reduction="none")
    counted = labels != IGNORE
    if ohem is not None:
        with torch.no_grad():
            plain = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
            least = torch.topk(plain.flatten(), max(1, plain.numel() // KEPT)).values[-1]
            counted &= plain >= least.clamp(max=-math.log(ohem))
    of_each = torch.ones_like(losses)
    if weights is not None:
        of_each = weights[torch.where(labels == IGNORE, 0, labels)]
    total = torch.where(counted, of_each, 0).sum()
    return torch.where(counted, losses, 0).sum() / total.clamp(min=1e-6)


def not_person_loss(logits: Tensor, labels: Tensor, person: int) -> Tensor:
    """Returns the mean of ``-ln(1 - p)`` over the pixels labelled `NOT_PERSON`; 0 of none.

    A partial label: p, the probability of a person, must be low; nothing is said of the others.

    Args:
        logits: ``(B,K,H,W)``.
        labels: int64 ``(B,H,W)``.
        person: the channel of that class.
    """
    here = labels == NOT_PERSON
    rest = torch.cat([logits[:, :person], logits[:, person + 1 :]], 1)
    losses = logits.logsumexp(1) - rest.logsumexp(1)
    return torch.where(here, losses, 0).sum() / here.sum().clamp(min=1)


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    *,
    where: Tensor | None = None,
    channels: Sequence[int] | None = None,
) -> Tensor:
    """Returns the mean KL divergence of the student's classes from the teacher's, times T².

    Source: Hinton et al. 2015 (1503.02531), section 2.

    Args:
        student: logits ``(B,K,h,w)``.
        teacher: logits ``(B,C,H,W)``, resized to the student's.
        temperature: T, which divides both.
        where: bool ``(B,H,W)``, the cells that count; None for all.
        channels: which of the teacher's C each of the student's K classes is, where C is less: of
            several that are one to the teacher the sum of their probabilities is compared.
    """
    teacher = to_size(teacher, student.shape[2:])
    ours = F.log_softmax(student / temperature, 1)
    if channels is not None and teacher.shape[1] < student.shape[1]:
        ours = together(ours, channels)
    theirs = F.log_softmax(teacher / temperature, 1)
    divergence = (theirs.exp() * (theirs - ours)).sum(1) * temperature**2
    if where is None:
        return divergence.mean()
    counted = F.interpolate(where[:, None].float(), student.shape[2:], mode="nearest")[:, 0]
    return (divergence * counted).sum() / counted.sum().clamp(min=1)


def together(logs: Tensor, channels: Sequence[int]) -> Tensor:
    """Returns the logarithms ``(B,C,h,w)`` of sums of probabilities.

    Args:
        logs: logarithms of probabilities ``(B,K,h,w)``.
        channels: to which of the C sums each of the K belongs.
    """
    sums = []
    for channel in range(max(channels) + 1):
        members = [index for index, wanted in enumerate(channels) if wanted == channel]
        sums.append(logs[:, members].logsumexp(1) if len(members) > 1 else logs[:, members[0]])
    return torch.stack(sums, 1)
