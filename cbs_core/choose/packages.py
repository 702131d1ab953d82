"""What installed packages bring along beside code: the folders ``conf`` and ``weights``.

A package is one that declares an entry point of a ``cbs.`` group. It is found by its metadata and
never imported: `importlib.util.find_spec` of a top-level name runs none of its code.
"""

from importlib.util import find_spec
from pathlib import Path

from cbs_core.choose.registry import EXTENSIONS, REGISTRIES

PROJECT = "class-based-styling"
"""The distribution whose packages come first, so that no stranger displaces what it brings."""


def folders(name: str) -> dict[str, Path]:
    """Returns the folders of a name at the top of packages, in the order that they are searched.

    The project's own come first, then strangers' by the package's name. A package that takes part
    in a conflict of names has none.

    Args:
        name: such as ``weights``.

    Returns:
        The folder, by top-level package.
    """
    packages = {
        (_project(origin) != PROJECT, registry.target(plugin).partition(":")[0].partition(".")[0])
        for registry in (*REGISTRIES.values(), *EXTENSIONS.values())
        for plugin in registry.names()
        if not registry.conflict(plugin)
        for origin in registry.claimants(plugin)
    }
    found: dict[str, Path] = {}
    for _, package in sorted(packages):
        try:
            spec = find_spec(package) if package.isidentifier() else None
        except (ImportError, ValueError):  # a broken finder of a package that nobody chose
            continue
        for root in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(root) / name).is_dir():
                found.setdefault(package, Path(root) / name)
    return found


def _project(origin: str) -> str:
    return origin.partition(" ")[0]
