"""What a batch says of itself: ``restyled.report.json``, and its last lines."""

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cbs_core.batch.progress import Tally
from cbs_core.batch.units import Entry
from cbs_core.machine import files
from cbs_core.machine.addresses import shown

DONE, EARLIER, FAILED, PASSED = "done", "done before", "failed", "passed over"


def as_dict(
    tally: Tally,
    earlier: Sequence[Mapping[str, Any]],
    passed_over: Sequence[str],
    hello: Mapping[str, Any] | None,
    config: Mapping[str, object],
) -> dict[str, Any]:
    """Returns a batch as plain values; seconds are of workers, rates in frames a second.

    Args:
        tally: what this run did.
        earlier: what runs before it had done, as the journal says it.
        passed_over: files that are neither picture nor video.
        hello: what the workers are; None where none was needed.
        config: the configuration.
    """
    lines = [{**_earlier(one), "status": EARLIER} for one in earlier]
    lines += [_line(entry) for entry in tally.entries]
    lines += [{"input": path, "status": PASSED} for path in passed_over]
    status = [line["status"] for line in lines]
    facts = {} if hello is None else {**hello["depends"], **hello}
    return {
        "program": f"{files.MARK.decode()} {version('class-based-styling')}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "outputs": {name: status.count(name) for name in (DONE, EARLIER, FAILED, PASSED)},
        "frames": tally.frames,
        "seconds": round(tally.seconds, 3),
        "fps": round(tally.fps, 3),
        "tried_again": tally.tried_again,
        "workers": {
            name: {
                "tasks": one.tasks,
                "frames": one.frames,
                "seconds": round(one.seconds, 3),
                "fps": round(one.fps, 3),
            }
            for name, one in sorted(tally.workers.items())
        },
        "items": sorted(lines, key=lambda line: str(line["input"])),
        "device": facts.get("device"),
        "precision": str(facts.get("precision", "")) or None,
        "versions": {"python": platform.python_version(), **facts.get("versions", {})},
        "plugins": facts.get("plugins", {}),
        "weights": facts.get("weights", []),
        "config": {key: _shown(value) for key, value in config.items()},
    }


def write(facts: Mapping[str, Any], path: Path, *, over: bool) -> Path:
    """Writes a report; returns its path.

    Raises:
        SinkError: it cannot be written.
    """
    text = json.dumps(facts, indent=1).encode()
    return files.replace(path, lambda file: file.write(text), over=over)


def _line(entry: Entry) -> dict[str, Any]:
    line: dict[str, Any] = {
        "input": shown(entry.item.input),
        "output": entry.output or None,
        "status": DONE if entry.error is None else FAILED,
        "frames": entry.frames,
        "seconds": round(entry.seconds, 3),
    }
    if entry.error is not None:
        line["error"] = entry.error
    if entry.windows:
        line["windows"] = {"all": entry.windows, "made_before": entry.kept}
    if entry.notes:
        line["notes"] = list(entry.notes)
    return line


def _earlier(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "input": shown(str(one["input"])),
        "output": one["output"],
        "frames": one["frames"],
        "seconds": one["seconds"],
    }


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shown(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return shown(value) if isinstance(value, str) else value
