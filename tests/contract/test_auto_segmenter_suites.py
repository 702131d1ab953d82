"""The segmenter that is chosen by the words of the routes passes its suites."""

from cbs_core import testing
from cbs_core.choose.registry import segmenters


class TestAuto(testing.PromptableSuite):
    plugin = "segmenter/auto"
    words = ("cat", "person")

    def create(self):
        return segmenters.create("auto")
