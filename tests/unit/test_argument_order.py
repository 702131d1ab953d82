"""Where the source and the sink that a command line implies are put among its arguments."""

import pytest

from cbs_core.cli.arguments import normalise


@pytest.mark.parametrize(
    ("typed", "want"),
    [
        ("", "sink=image"),
        ("--info", "sink=image --info"),
        ("styler=none --cfg job", "styler=none sink=image --cfg job"),
        ("--cfg job styler=none", "--cfg job styler=none sink=image"),
        ("-sc query=bash", "-sc query=bash sink=image"),
    ],
)
def test_it_stands_with_the_other_overrides(typed, want):
    assert normalise(typed.split()) == want.split()
