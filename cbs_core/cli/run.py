"""``cbs-run``: restyle chosen classes of a picture, a folder or a video."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from cbs_core.run.job import Begun, Tick

INTERRUPTED = 130


def main() -> None:
    """Entry point."""
    from cbs_core.cli.app import hydra_app

    hydra_app("cbs-run", run, sys.argv[1:])


def run(config: Mapping[str, object]) -> int:
    """Runs one composed configuration (``conf/config.yaml``).

    Returns:
        The exit code: 0, or 130 where Ctrl-C ended the run and the output holds a part.

    Raises:
        CbsError: whatever a user can mend; where frames were done, the output holds them, and the
            line says so.
    """
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from cbs_core.machine.terminal import PlainConsole
    from cbs_core.machine.text import complain
    from cbs_core.run.job import Job
    from cbs_core.run.report import print_table
    from cbs_core.run.settings import parse

    settings = parse(config)
    # stdout, so that stderr holds problems only.
    console = PlainConsole(quiet=settings.quiet)
    job = Job(settings, run_folder=Path(HydraConfig.get().runtime.output_dir))
    said: list[str] = []
    report = job.run(lambda begun: _shown(begun, console, said))
    if report is None:
        complain("interrupted before there was anything to keep: there is no output")
        return INTERRUPTED
    print_table(report, console, said)
    report.check()
    if report.interrupted:
        complain(f"interrupted: {report.closed}")
        return INTERRUPTED
    return 0


@contextmanager
def _shown(begun: "Begun", console: "Console", said: list[str]) -> "Iterator[Tick]":
    """Prints what a run is, how far, and what it cannot keep, where that is known."""
    from cbs_core.choose import weights
    from cbs_core.run.progress import progress

    plan, device = begun.plan, begun.device
    styles = ", ".join(f"{route.named()}: {route.label}" for route in plan.routes)
    console.print(
        f"{device.device} ({device.name}) · {styles or 'no style'} · weights: "
        f"{weights.told(plan.facts.weights)}",
        markup=False,
    )
    for file in plan.facts.weights:
        if "non-commercial" in file.licence:
            name = f"{file.path.parent.name}/{file.path.stem}"
            console.print(f"{name}: {file.licence}", markup=False)

    def tell() -> None:
        for line in begun.notes():
            if line not in said:
                said.append(line)
                console.print(line, markup=False)

    tell()
    with progress(console, begun.meter, begun.info.frames) as tick:

        def told() -> None:
            # In the writer's thread, where it would cost the output; told at the end, as all is.
            with suppress(OSError):
                tell()
                tick()

        yield told
