"""``cbs-doctor``: what works on this machine, what is missing, and the command that adds it."""

import argparse
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from cbs_core.choose.packages import PROJECT
from cbs_core.choose.registry import EXTENSIONS, REGISTRIES, checks, guarded
from cbs_core.choose.surroundings import GROUPS, distributions, missing_extras, stray_groups
from cbs_core.cli import ending
from cbs_core.cli.app import one_line_errors
from cbs_core.cli.text import VERSION
from cbs_core.contract.errors import CbsError
from cbs_core.contract.extensions import LEVELS, NOTE, OK, PROBLEM, Finding
from cbs_core.machine.text import say


def main() -> None:
    """Entry point; exits with 1 where something is broken."""
    parser = argparse.ArgumentParser(
        prog="cbs-doctor",
        description="Checks Python, torch, the device (by running a kernel there), weights, "
        "plugins, extras and what plugins' packages check, and names the command that mends each.",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    end = ending.watch("cbs-doctor")
    with one_line_errors("cbs-doctor"):
        parser.parse_args()
        findings = []
        for finding in diagnose():
            say(f"{finding.level:8}{finding.subject:11} {finding.text}")
            findings.append(finding)
        end.leave(1 if any(finding.level == PROBLEM for finding in findings) else 0)


def diagnose() -> Iterator[Finding]:
    """Yields the findings, each as soon as it is known."""
    yield Finding(OK, "python", f"{platform.python_version()} on {platform.platform()}")
    yield _version()
    yield from _torch()
    yield from _weights()
    yield from _plugins()
    yield from _groups()
    yield from _streams()
    yield from _checks()
    yield from _accelerators()
    yield from _extras()


def _version() -> Finding:
    try:
        return Finding(OK, "cbs", version(PROJECT))
    except PackageNotFoundError:
        return Finding(PROBLEM, "cbs", f"not installed: pip install {PROJECT}")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # a broken native library raises whatever it likes
        yield Finding(PROBLEM, "torch", f"cannot be imported ({error}): pip install torch")
        return
    from cbs_core.machine.device import choose

    yield Finding(OK, "torch", f"{torch.__version__} (CUDA build: {torch.version.cuda or 'no'})")
    try:
        chosen = choose("auto")
        yield Finding(OK, "device", f"{chosen.device} ({chosen.name}): a kernel was run there")
    except CbsError as error:
        yield Finding(PROBLEM, "device", str(error))


def _weights() -> Iterator[Finding]:
    from cbs_core.choose.weights import everywhere, rooms, search_folders

    for folder in search_folders():
        state = "" if folder.is_dir() else " (does not exist)"
        yield Finding(OK, "weights in", f"{folder}{state}")
    found = rooms()
    for room in found:
        files = everywhere(room)
        yield Finding(OK, room, ", ".join(files))
        for stem, (first, *others) in files.items():
            if others:
                hidden = ", ".join(map(str, others))
                yield Finding(
                    OK, room, f"{stem} is {first}; {hidden} is not, and is taken by its path"
                )
    if not found:
        yield Finding(
            NOTE,
            "weights",
            "none found: give a file with segmenter.weights=FILE or styler.weights=FILE, or set "
            "CBS_WEIGHTS to a folder that holds PLUGIN/NAME.safetensors",
        )


def _plugins() -> Iterator[Finding]:
    for kind, registry in {**REGISTRIES, **EXTENSIONS}.items():
        good = []
        for name in registry.names():
            try:
                registry.load(name)
                good.append(name)
            except CbsError as error:
                yield Finding(PROBLEM, kind, str(error))
        if good:
            yield Finding(OK, kind, ", ".join(good))


def _groups() -> Iterator[Finding]:
    """Yields the entry points that nobody reads, for their group's name is not quite ours."""
    for entry, right in stray_groups():
        owner = entry.dist.name if entry.dist else "a package"
        mend = f"'{right}'" if right else f"one of {', '.join(GROUPS)}"
        yield Finding(
            PROBLEM,
            "entry point",
            f"{owner} declares '{entry.name}' in the group '{entry.group}', which nothing reads: "
            f"name the group {mend} there and install the package again",
        )


def _streams() -> Iterator[Finding]:
    from cbs_core.choose.streams import problems

    for problem in problems():
        yield Finding(PROBLEM, "conf", problem)


def _checks() -> Iterator[Finding]:
    """Yields what packages check themselves; a check that fails is a finding of its own."""
    for name in checks.names():
        try:
            owner = checks.origin(name)
            what = f"the check '{name}' of {owner}"
            found = guarded(what, lambda name=name: [*checks.load(name)()])
        except CbsError as error:
            yield Finding(PROBLEM, "check", str(error))
            continue
        yield from (_checked(finding, what, owner) for finding in found)


def _checked(finding: object, what: str, owner: str) -> Finding:
    """Returns a stranger's finding on one line, with the package that it is from."""
    try:
        level, subject, text = (" ".join(str(part).split()) for part in finding)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        level = ""
    if level not in LEVELS:
        return Finding(
            PROBLEM,
            "check",
            f"{what} gave {finding!r}, which is no finding: level ({', '.join(LEVELS)}), subject "
            "and text are due",
        )
    return Finding(level, subject, text if owner.startswith(PROJECT) else f"{text} ({owner})")


def _accelerators() -> Iterator[Finding]:
    try:
        from cbs_core.accelerators.store import folder
        from cbs_core.machine.device import BF16, features
    except ImportError:  # torch, of which the line above tells
        return
    found = features()
    half = (
        "by default" if set(BF16) & {*found} else "not: this CPU has neither AMX nor AVX-512 for it"
    )
    yield Finding(OK, "cpu", f"{', '.join(found) or 'no vector extensions'}; nets in bf16: {half}")
    try:
        yield Finding(OK, "openvino", version("openvino"))
    except PackageNotFoundError:
        yield Finding(
            NOTE, "openvino", "not installed, so nets are slow on the CPU: pip install openvino"
        )
    place = folder()
    there = next(path for path in (place, *place.parents) if path.exists())
    if os.access(there, os.W_OK):
        yield Finding(OK, "cache in", f"{place}")
    else:
        yield Finding(
            NOTE,
            "cache in",
            f"{place} cannot be written, so each run prepares its nets anew: set CBS_CACHE to "
            "another folder",
        )


def _extras() -> Iterator[Finding]:
    for name, distribution in distributions().items():
        for extra, absent in missing_extras(distribution).items():
            subject = f"[{extra}]" if name == PROJECT else f"{name}[{extra}]"
            if absent:
                command = f"pip install '{name}[{extra}]'"
                yield Finding(NOTE, subject, f"{', '.join(absent)} not installed: {command}")
            else:
                yield Finding(OK, subject, "installed")
