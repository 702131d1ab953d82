"""``cbs-doctor``: what works on this machine, what is missing, and the command that adds it."""

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement

from cbs_core.choose.registry import REGISTRIES

DISTRIBUTION = "class-based-styling"

NOT_FOR_USERS = ("dev", "test")
"""Extras that only work on this project needs."""

ENCODERS = {"libx264": "mp4, mov, mkv", "libvpx-vp9": "webm"}

OK, WARN, BAD = "ok", "note", "PROBLEM"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis."""

    level: str
    subject: str
    text: str


def main() -> None:
    """Entry point; exits with 1 where something is broken."""
    parser = argparse.ArgumentParser(
        prog="cbs-doctor",
        description="Checks Python, torch, the device (by running a kernel there), video codecs, "
        "weights, plugins and extras, and names the command that mends each.",
    )
    parser.parse_args()
    findings = []
    for finding in diagnose():
        print(f"{finding.level:8}{finding.subject:12}{finding.text}", flush=True)
        findings.append(finding)
    sys.exit(1 if any(finding.level == BAD for finding in findings) else 0)


def diagnose() -> Iterator[Finding]:
    """Yields the findings, each as soon as it is known."""
    yield Finding(OK, "python", f"{platform.python_version()} on {platform.platform()}")
    yield _version(DISTRIBUTION)
    yield from _torch()
    yield from _codecs()
    yield from _weights()
    yield from _plugins()
    yield from _accelerators()
    yield from _extras()


def _version(distribution: str) -> Finding:
    try:
        return Finding(OK, distribution if len(distribution) < 12 else "cbs", version(distribution))
    except PackageNotFoundError:
        return Finding(BAD, "cbs", f"not installed: pip install {distribution}")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # a broken native library raises whatever it likes
        yield Finding(BAD, "torch", f"cannot be imported ({error}): pip install torch")
        return
    from cbs_core.contract.errors import CbsError
    from cbs_core.machine.device import choose

    yield Finding(OK, "torch", f"{torch.__version__} (CUDA build: {torch.version.cuda or 'no'})")
    try:
        chosen = choose("auto")
        yield Finding(OK, "device", f"{chosen.device} ({chosen.name}): a kernel was run there")
    except CbsError as error:
        yield Finding(BAD, "device", str(error))


def _codecs() -> Iterator[Finding]:
    import av
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    yield Finding(OK, "PyAV", f"{av.__version__}")
    for name, containers in ENCODERS.items():
        try:
            Codec(name, "w")
            yield Finding(OK, "encoder", f"{name} ({containers})")
        except UnknownCodecError:
            yield Finding(
                WARN, "encoder", f"{name} is missing, so no {containers}: pip install --upgrade av"
            )


def _weights() -> Iterator[Finding]:
    from cbs_core.choose.weights import available, search_folders

    for folder in search_folders():
        state = "" if folder.is_dir() else " (does not exist)"
        yield Finding(OK, "weights in", f"{folder}{state}")
    for room, flag in (
        ("smp", "segmenter.weights"),
        ("dabnet", "segmenter.weights"),
        ("johnson", "styler.weights"),
    ):
        found = available(room)
        if found:
            yield Finding(OK, room, ", ".join(found))
        else:
            yield Finding(
                WARN,
                room,
                f"no weights found: give a file with {flag}=FILE, or set CBS_WEIGHTS to the folder "
                f"that holds {room}/",
            )


def _plugins() -> Iterator[Finding]:
    from cbs_core.contract.errors import CbsError

    for kind, registry in REGISTRIES.items():
        good = []
        for name in registry.names():
            try:
                registry.load(name)
                good.append(name)
            except CbsError as error:
                yield Finding(BAD, kind, str(error))
        if good:
            yield Finding(OK, kind, ", ".join(good))


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
            WARN, "openvino", "not installed, so nets are slow on the CPU: pip install openvino"
        )
    place = folder()
    there = next(path for path in (place, *place.parents) if path.exists())
    if os.access(there, os.W_OK):
        yield Finding(OK, "cache in", f"{place}")
    else:
        yield Finding(
            WARN,
            "cache in",
            f"{place} cannot be written, so each run prepares its nets anew: set CBS_CACHE to "
            "another folder",
        )


def _extras() -> Iterator[Finding]:
    extras: dict[str, list[str]] = {}
    for line in requires(DISTRIBUTION) or ():
        requirement = Requirement(line)
        # A marker such as `extra == "gatys"` holds for that extra only.
        for extra in metadata(DISTRIBUTION).get_all("Provides-Extra") or ():
            marker = requirement.marker
            if marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
                extras.setdefault(extra, []).append(requirement.name)
    for extra, names in extras.items():
        if extra in NOT_FOR_USERS:
            continue
        if absent := [name for name in names if not _is_installed(name)]:
            command = f"pip install '{DISTRIBUTION}[{extra}]'"
            yield Finding(WARN, f"[{extra}]", f"{', '.join(absent)} not installed: {command}")
        else:
            yield Finding(OK, f"[{extra}]", "installed")


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
