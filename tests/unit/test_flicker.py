"""By frozen statistics what stands still stays still, whatever moves elsewhere."""

import pytest
from cbs_plugins.stylers.johnson import JohnsonStyler

from benchmarks import flicker


@pytest.fixture(scope="module")
def styler():
    return JohnsonStyler(style="the_scream").eval()


def test_what_moves_elsewhere_is_not_seen(styler, monkeypatch):
    monkeypatch.setattr(flicker, "FRAMES", 4)
    own, frozen = flicker.flicker(styler, flicker.clip(True, noise=0))
    assert frozen == pytest.approx(0, abs=1e-3)
    assert own > 0.1


def test_with_noise_it_is_seen_less(styler, monkeypatch):
    monkeypatch.setattr(flicker, "FRAMES", 6)
    own, frozen = flicker.flicker(styler, flicker.clip(True))
    assert frozen < 0.9 * own
