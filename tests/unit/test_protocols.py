"""Which built-in plugins fill the optional protocols that the core asks for."""

import pytest
from cbs_plugins.compositors.feather import FeatherCompositor
from cbs_plugins.compositors.guided import GuidedCompositor
from cbs_plugins.compositors.hard import HardCompositor
from cbs_plugins.compositors.mrf import MRFCompositor
from cbs_plugins.sources.folder import FolderSource
from cbs_plugins.sources.image import ImageSource
from cbs_plugins.sources.video import VideoSource

from cbs_core.contract.interfaces import CountsDamage, HasReach


@pytest.mark.parametrize(
    "compositor", [FeatherCompositor, GuidedCompositor, HardCompositor, MRFCompositor]
)
def test_compositors_say_how_far_they_reach(compositor):
    made = compositor()
    assert isinstance(made, HasReach)
    assert made.reach >= 0


def test_sources_that_go_on_after_damage_count_it(tmp_path):
    assert isinstance(VideoSource("a.mp4"), CountsDamage)
    assert isinstance(FolderSource(str(tmp_path)), CountsDamage)
    assert not isinstance(ImageSource("a.png"), CountsDamage)
