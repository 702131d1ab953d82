"""The versions of constraints.txt are those that pyproject.toml allows, and all of them."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINNED = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
}
UNTRIED = {"gsplat", "setuptools"}
"""What needs a GPU, and what pip brings along."""

WANTED = sorted(
    want
    for wants in (PROJECT["dependencies"], *EXTRAS.values())
    for want in set(wants)
    if not want.startswith("class-based-styling[")
)


@pytest.mark.parametrize("wanted", dict.fromkeys(WANTED))
def test_a_tested_version_is_one_that_is_allowed(wanted: str) -> None:
    requirement = Requirement(wanted)
    name = canonicalize_name(requirement.name)
    if name in UNTRIED:
        assert name not in PINNED
        return
    assert PINNED[name] in requirement.specifier


@pytest.mark.parametrize(
    "wanted",
    [
        *PROJECT["dependencies"],
        *(want for extra in EXTRAS if extra not in ("dev", "test") for want in EXTRAS[extra]),
    ],
)
def test_a_major_version_that_nobody_has_tried_is_not_taken(wanted: str) -> None:
    requirement = Requirement(wanted)
    if requirement.name != "class-based-styling":  # an extra of its own
        assert {one.operator for one in requirement.specifier} & {"<", "=="}, wanted


def test_no_library_of_cuda_is_pinned() -> None:
    """They would keep torch's CPU build from being installed beside them."""
    assert not [name for name in PINNED if name.startswith(("nvidia", "cuda", "triton"))]
    assert "+" not in PINNED["torch"]
