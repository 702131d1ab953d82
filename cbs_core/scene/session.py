"""One run of ``cbs-scene``: opens what ``input`` names, restyles it, writes it and tells of it."""

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from cbs_core.choose import registry
from cbs_core.choose.sections import flag
from cbs_core.contract.errors import ConfigError
from cbs_core.contract.extensions import Distance
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.machine import device as devices
from cbs_core.machine.files import MARK, marked, replace
from cbs_core.machine.terminal import PlainConsole
from cbs_core.machine.unfinished import UnfinishedFolder, elsewhere, left_over, remove
from cbs_core.run import settings
from cbs_core.run.destinations import Places, refuse_part
from cbs_core.scene import consistency, sheet, viewer
from cbs_core.scene.cameras import orbit
from cbs_core.scene.nets import Workshop, summary
from cbs_core.scene.places import known_format, places
from cbs_core.scene.restyled import Request, Restyled
from cbs_core.scene.types import MeshFile, SceneFile, SplatFile, WritesBeside

TURN = 48
"""Pictures of the turntable."""

RATE = Fraction(24)
"""Pictures a second."""

SIDE = 384
"""Pixels a side of the turntable's pictures."""

TILT = 14.0
"""Degrees from which the turntable looks down."""

VERSIONS = ("class-based-styling", "torch", "numpy", "scipy", "embreex", "gsplat")


def scene_session(config: Mapping[str, object], *, run_folder: Path) -> int:
    """Restyles a scene (``conf/scene.yaml``); returns the exit code.

    Args:
        config: the configuration, resolved to plain values.
        run_folder: where an output goes that ``output`` does not name.

    Raises:
        CbsError: whatever a user can mend.
    """
    start = time.perf_counter()
    quiet = flag(config, "quiet")
    console = PlainConsole(quiet=quiet)
    source = Path(str(config["input"])).expanduser()
    there = places(config, source, run_folder)
    output = there.output
    assert output is not None
    chosen = devices.choose(str(config["device"]))
    dtype = devices.dtype(str(config["precision"]), chosen.device)
    accelerator = settings.accelerator(config)
    workshop = Workshop(
        {"name": accelerator.name, **accelerator.params},
        chosen.device,
        dtype,
        tell=lambda line: console.print(line, markup=False),
    )
    request = _request(config, workshop, _progress(console))
    overwrite = flag(config, "overwrite", default=False)
    file = opened(source)
    for path in _parts(file, output):
        refuse_part(path, overwrite=overwrite)
    for line in file.left_out:
        console.print(f"left out: {line}", markup=False)
    with _claimed(output):
        restyled = _restyled(file, request)
        written = restyled.write(output if overwrite else _free(output, file))
        if written[0] != output:
            console.print(elsewhere(output, written[0]), markup=False)
        measured = _pictures(config, restyled, there, request, written)
    facts = {
        "program": f"{MARK.decode()} {version('class-based-styling')}",
        "input": str(source),
        "output": [str(path) for path in written],
        **restyled.facts,
        "left_out": list(restyled.left_out),
        "consistency": measured,
        "seconds": round(time.perf_counter() - start, 1),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "device": {"type": str(chosen.device), "name": chosen.name},
        "dtype": devices.precision(dtype),
        "versions": {"python": platform.python_version(), **_versions()},
        **summary(workshop),
        "config": dict(config),
    }
    if report := there.beside.get("report"):
        facts["pictures"] = [path.name for path in written if path in there.beside.values()]
        text = json.dumps(facts, indent=2).encode()
        written.append(replace(report, lambda f: f.write(text), over=overwrite))
    _tell(console, facts, written)
    return 0


def opened(source: Path) -> SceneFile:
    """Opens a scene by the plugin that its suffix names.

    Raises:
        SourceError: it is not there, or damaged.
        ConfigError: no plugin reads such files.
    """
    plugin = registry.scenes.load(known_format(source))
    file = registry.guarded(f"opening '{source}'", plugin, str(source))
    if not isinstance(file, MeshFile | SplatFile):
        raise ConfigError(f"the plugin for '{source.suffix}' gave neither a mesh nor splats")
    return file


@contextmanager
def _claimed(output: Path) -> Iterator[None]:
    """Keeps other runs from an output while this one works, and leaves no empty folder.

    Raises:
        SinkError: another one does.
    """
    missing = [folder for folder in output.parents if not folder.exists()]
    claim = UnfinishedFolder(output)
    try:
        yield
        remove(left_over(output), output.suffix)
    finally:
        with suppress(OSError):
            claim.path.rmdir()
        claim.release()
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()


def _free(output: Path, file: SceneFile) -> Path:
    """Returns ``output``, or one like it where somebody has put a file in the way meanwhile."""
    number, final = 1, output
    while any(map(os.path.lexists, [final, *_parts(file, final)])):
        number += 1
        final = output.with_name(f"{output.stem}.{number}{output.suffix}")
    return final


def _parts(file: SceneFile, path: Path) -> list[Path]:
    """Returns the files that are written beside the one of ``path``."""
    return file.beside(path) if isinstance(file, WritesBeside) else []


def _restyled(file: SceneFile, request: Request) -> Restyled:
    if isinstance(file, MeshFile):
        if request.refine is not None:
            raise ConfigError("refine= is of splats: leave it out for a mesh")
        from cbs_core.scene.meshes import restyle
    else:
        from cbs_core.scene.clouds import restyle  # type: ignore[assignment]
    return restyle(file, request)  # type: ignore[arg-type]


def _request(config: Mapping[str, object], workshop: Workshop, progress: object) -> Request:
    if config["harmonics"] not in ("flat", "keep"):
        raise ConfigError(f"harmonics={config['harmonics']} is neither flat nor keep")
    return Request(
        workshop=workshop,
        segmenter=config["segmenter"],
        styler=config["styler"],
        routes=config["routes"],
        labels=str(config["labels"]),
        select=config["select"],
        cameras=config["cameras"],
        views=_count(config, "views", 1, 1000),
        size=_count(config, "size", 64, 4096),
        harmonics=str(config["harmonics"]),
        iterations=_count(config, "iterations", 0, 100),
        grain=_share(config, "grain"),
        distance=_distance(config["distance"]),
        refine=_distance(config["refine"]),
        steps=_count(config, "steps", 1, 100_000),
        progress=progress,  # type: ignore[arg-type]
    )


def _distance(name: object) -> Distance | None:
    return None if name is None else registry.distances.create(str(name))


def _count(config: Mapping[str, object], key: str, least: int, most: int) -> int:
    value = config[key]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(f"{key}={value} is no whole number in {least}..{most}")
    return value


def _share(config: Mapping[str, object], key: str) -> float:
    value = config[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ConfigError(f"{key}={value} is no number in 0..1")
    return float(value)


def _progress(console: Console) -> object:
    @contextmanager
    def step(what: str, total: int) -> Iterator[Callable[[], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bars(*columns, console=console, transient=True) as bars:
            task = bars.add_task(what, total=total)
            begun = time.perf_counter()
            yield lambda: bars.advance(task)
        console.print(f"{what}: {total} in {time.perf_counter() - begun:.1f} s")

    return step


def _pictures(
    config: Mapping[str, object],
    restyled: Restyled,
    there: Places,
    request: Request,
    written: list[Path],
) -> object:
    """Writes sheet, turntable and viewer; returns the measures of consistency."""
    overwrite = flag(config, "overwrite", default=False)
    if path := there.beside.get("sheet"):
        with request.progress("drawing four sides", 4) as step:
            drawn, mark = sheet.drawn(restyled, step), marked()
        written.append(replace(path, lambda f: drawn.save(f, "png", pnginfo=mark), over=overwrite))
    if path := there.beside.get("turntable"):
        with request.progress("drawing the turntable", TURN) as step:
            _turntable(restyled, path, step)
        written.append(path)
    if path := there.beside.get("viewer"):
        assert there.output is not None
        page = viewer.page(restyled.viewer(), title=there.output.name)
        written.append(replace(path, lambda f: f.write(page), over=overwrite))
    if not flag(config, "measure"):
        return None
    with request.progress("measuring consistency", consistency.STEPS) as step:
        return consistency.measured(restyled, step, request.distance)


def _turntable(restyled: Restyled, path: Path, step: Callable[[], None]) -> None:
    sink = registry.sinks.create("video", path=str(path))
    info = StreamInfo(width=SIDE, height=SIDE, rate=RATE, frames=TURN, name=path.stem)
    try:
        sink.open(info)
        for i in range(TURN):
            camera = orbit(restyled.ball, 360 * i / TURN, TILT, SIDE)
            pixels = np.round(np.clip(restyled.after(camera), 0, 1) * 255).astype(np.uint8)
            sink.write(RawFrame(torch.from_numpy(pixels), i, i / RATE))
            step()
        sink.close()
    except BaseException:
        sink.abort()
        raise


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError

    found = {}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _tell(console: Console, facts: Mapping[str, object], written: list[Path]) -> None:
    classes = facts["classes"]
    assert isinstance(classes, list)
    for one in classes:
        seen, name = one["seen"], " ".join(one["classes"])
        count = one.get("faces", one.get("splats"))
        console.print(
            f"{name}: {count} {'faces' if 'faces' in one else 'splats'}, {seen:.0%} of them seen",
            markup=False,
        )
        if one["style"] and not count:
            console.print(
                f"no {name} was found in any view: the scene is as it was there", markup=False
            )
    if not facts.get("frozen_statistics", True):
        console.print(
            "the styler has no statistics to freeze: each view is styled by itself, and "
            "strokes may change from one to the next"
        )
    console.print(f"{facts['seconds']} s, {facts['peak_memory_mib']} MiB")
    for path in written:
        console.print(str(path), markup=False)
