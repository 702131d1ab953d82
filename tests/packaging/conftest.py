"""The wheels, the environments and the weights that the packaging tests share."""

from pathlib import Path

import pytest
import torch

from tests.packaging.environments import (
    ROOT,
    Environment,
    build_wheels,
    copies_of_examples,
    new_environment,
    wheel,
)

PROJECTS = ("class_based_styling", "cbs_pastel", "cbs_meadow")


@pytest.fixture(scope="session")
def wheels(tmp_path_factory) -> Path:
    """A folder with the wheels of the project and of the examples, and the project's sdist."""
    folder = tmp_path_factory.mktemp("wheels")
    build_wheels(folder)
    return folder


@pytest.fixture(scope="session")
def from_wheels(wheels, tmp_path_factory) -> Environment:
    """The project and the examples, all as wheels; tests leave it as it is."""
    environment = new_environment(tmp_path_factory.mktemp("from_wheels"))
    environment.install(*(wheel(wheels, name) for name in PROJECTS))
    return environment


@pytest.fixture(scope="session")
def from_checkouts(tmp_path_factory) -> Environment:
    """The project and the examples, all editable; tests leave it as it is."""
    environment = new_environment(tmp_path_factory.mktemp("from_checkouts"))
    for folder in (ROOT, *copies_of_examples(environment.root)):
        environment.install("-e", folder)
    return environment


@pytest.fixture(params=["from_wheels", "from_checkouts"])
def environment(request) -> Environment:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A weight folder (as ``$CBS_WEIGHTS``) whose DABNet sees a person in every pixel."""
    from cbs_plugins.nets.dabnet import DABNet

    from cbs_core.words.vocabularies import VOCABULARIES

    classes = list(VOCABULARIES["voc"])
    net = DABNet(len(classes))
    with torch.no_grad():
        # Features of 1 whatever the picture, which only the person's row adds up.
        net.bn_prelu_3.bn.weight.zero_()
        net.bn_prelu_3.bn.bias.fill_(1)
        net.classifier[0].conv.weight.zero_()
        net.classifier[0].conv.weight[classes.index("person")] = 1
    folder = tmp_path_factory.mktemp("weights")
    (folder / "dabnet").mkdir()
    torch.save(net.state_dict(), folder / "dabnet" / "voc.pth")
    return folder
