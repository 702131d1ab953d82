"""What a DABNet to be trained is made of."""

import json

from torch import nn

from cbs_plugins.nets.dabnet import IMAGENET_MEAN, MEANS, DABNet
from cbs_plugins.training.segmentation import Trainee


def create(classes: tuple[str, ...], vocabulary: str | None) -> Trainee:
    """Returns a DABNet for the classes, with the mean of the vocabulary's official training.

    Its convolutions get Kaiming's initialisation, as in the authors' code.
    """
    mean = MEANS.get(vocabulary or "", IMAGENET_MEAN)
    net = DABNet(len(classes))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    return Trainee(
        name="DABNet",
        net=net,
        multiple=1,
        mean=[value / 255 for value in mean],
        std=(1 / 255,) * 3,
        metadata={"mean": json.dumps(mean)},
    )
