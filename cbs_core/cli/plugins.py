"""``cbs-plugins``: which plugins are installed, from where, and whether they load."""

import argparse
import json
from pathlib import Path

from cbs_core.choose.registry import EXTENSIONS, REGISTRIES, parameters
from cbs_core.cli import ending
from cbs_core.cli.text import VERSION
from cbs_core.contract.errors import CbsError, ConfigError, closest
from cbs_core.machine.text import say

KINDS = {**REGISTRIES, **EXTENSIONS}


def main() -> None:
    """Entry point."""
    from cbs_core.cli.app import one_line_errors

    parser = argparse.ArgumentParser(
        prog="cbs-plugins",
        description="Lists the installed plugins. Nothing is imported but what `show` names.",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="list | show")
    listing = commands.add_parser("list", help="every plugin: kind, name, distribution, preset")
    listing.add_argument("kind", nargs="?", help="only this kind, such as styler")
    listing.add_argument("--json", action="store_true", help="print JSON")
    show = commands.add_parser("show", help="one plugin in full, loading it")
    show.add_argument("plugin", metavar="KIND/NAME", help="such as styler/johnson")
    end = ending.watch("cbs-plugins")  # before what `show` imports
    with one_line_errors("cbs-plugins"):
        args = parser.parse_args()
        if args.command == "list":
            list_plugins(args.kind, as_json=args.json)
        else:
            end.leave(show_plugin(args.plugin))


def list_plugins(kind: str | None, *, as_json: bool) -> None:
    """Prints a line a plugin; imports none.

    Raises:
        ConfigError: no such kind.
    """
    from cbs_core.choose.presets import presets

    if kind is not None and kind not in KINDS:
        raise ConfigError(f"no kind '{kind}'{closest(kind, KINDS)} ({', '.join(KINDS)})")
    rows = []
    for registry in KINDS.values() if kind is None else [KINDS[kind]]:
        for name in registry.names():
            files = presets(registry.kind, name)
            rows.append(
                {
                    "kind": registry.kind,
                    "name": name,
                    "distribution": " and ".join(registry.claimants(name)),
                    "preset": str(files[0]) if files else None,
                    "shadows": [str(file) for file in files[1:]],
                    "conflict": registry.conflict(name),
                }
            )
    if as_json:
        say(json.dumps(rows, indent=2))
        return
    cells = [("KIND", "NAME", "DISTRIBUTION", "PRESET")]
    for row in rows:
        preset = _relative(str(row["preset"])) if row["preset"] else "(none: takes +KIND.KEY=VALUE)"
        preset = "" if row["kind"] in EXTENSIONS else preset
        notes = [f"shadows {_relative(file)}" for file in row["shadows"]]  # type: ignore[union-attr]
        notes += ["CONFLICT: unusable until one of them is uninstalled"] if row["conflict"] else []
        cells.append(
            (
                str(row["kind"]),
                str(row["name"]),
                str(row["distribution"]),
                "; ".join([preset, *notes]),
            )
        )
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    for line in cells:
        row_text = "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[3]])
        say(row_text.rstrip())


def show_plugin(plugin: str) -> int:
    """Prints a plugin's origin, presets, parameters and documentation; loads that one only.

    Returns:
        The exit code: 0 where it loads, 1 where it does not.

    Raises:
        CbsError: no such plugin.
    """
    import inspect

    from cbs_core.choose.presets import presets

    kind, _, name = plugin.partition("/")
    if kind in KINDS and not name:
        raise ConfigError(f"'{plugin}' names no plugin: `cbs-plugins list {kind}` shows those")
    if kind not in KINDS or not name:
        raise ConfigError(
            f"'{plugin}' is not KIND/NAME{closest(kind, KINDS)} (kinds: {', '.join(KINDS)})"
        )
    registry = KINDS[kind]
    if not registry.conflict(name):
        registry.origin(name)
    say(f"{kind}/{name}")
    say(f"  distribution  {' and '.join(registry.claimants(name))}")
    files = presets(kind, name)
    say(f"  preset        {files[0] if files else '(none)'}")
    for file in files[1:]:
        say(f"  shadowed      {file}")
    cards = _print_weights(name) if kind in ("segmenter", "styler") else []
    try:
        target = registry.load(name)
    except CbsError as error:
        say(f"  loads         no: {error}")
        return 1
    say("  loads         yes")
    say(f"  target        {registry.target(name)}")
    say(f"  parameters    {parameters(target)}")
    text = inspect.getdoc(target)
    if text:
        say()
        say("\n".join(f"  {line}".rstrip() for line in text.splitlines()))
    for path in cards:
        say(f"\n{path}\n")
        say(path.read_text(encoding="utf-8", errors="replace").rstrip())
    return 0


def _print_weights(room: str) -> list[Path]:
    """Prints the weights of a room with their licences; returns their model cards."""
    from cbs_core.choose.weights import card, everywhere, licence

    cards = []
    for stem, (path, *others) in everywhere(room).items():
        told = " ".join(licence(path).split())
        say(f"  weights       {stem}: {path}{f' ({told})' if told else ''}")
        for other in others:
            say(f"  shadowed      {other}")
        cards += [found] if (found := card(path)) else []
    return cards


def _relative(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
