"""What distributions declare around their plugins: extras, and groups that are nobody's.

Metadata only: nothing is imported.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, version

from packaging.requirements import Requirement

from cbs_core.choose.packages import PROJECT
from cbs_core.choose.registry import EXTENSIONS, REGISTRIES, installed

GROUPS = tuple(r.group for r in (*REGISTRIES.values(), *EXTENSIONS.values()))
"""Every entry-point group that is read."""

NOT_FOR_USERS = ("dev", "doc", "docs", "lint", "test", "tests")
"""Extras that only work on a package itself needs."""


def distributions() -> dict[str, Distribution]:
    """Returns every distribution that declares an entry point of ours, by name."""
    return {
        entry.dist.name: entry.dist
        for group in GROUPS
        for entry in installed().select(group=group)
        if entry.dist
    }


def missing_extras(distribution: Distribution) -> dict[str, list[str]]:
    """Returns what is not installed of each extra for users; of a whole one, an empty list."""
    extras: dict[str, list[str]] = {}
    declared = distribution.metadata.get_all("Provides-Extra") or ()
    for line in distribution.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        # A marker such as `extra == "gatys"` holds for that extra only.
        for extra in declared if marker and not marker.evaluate({"extra": ""}) else ():
            if extra not in NOT_FOR_USERS and marker and marker.evaluate({"extra": extra}):
                absent = extras.setdefault(extra, [])
                absent += [] if _is_installed(requirement.name) else [requirement.name]
    return extras


def stray_groups() -> Iterator[tuple[EntryPoint, str]]:
    """Yields each entry point of a group that is nearly one of ours, and the right group.

    The right group is empty where a group starts with ``cbs`` or the project's name and is near to
    none.
    """
    for entry in installed():
        group = entry.group.lower().replace("-", ".").replace("_", ".")
        group = re.sub(rf"^{PROJECT.replace('-', '[.]')}\b", "cbs", group)
        if entry.group in GROUPS or not group.startswith(("cbs", "cb.", "csb.")):
            continue
        near = get_close_matches(group, GROUPS, n=1, cutoff=0.75)
        if near or f"{group}.".startswith("cbs."):
            yield entry, near[0] if near else ""


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
