"""``python -m benchmarks.soak``: a long evening of the studio, with a browser that looks on.

``cbs-live`` plays a clip at 25 FPS, faster than most machines restyle it; Chromium watches in one
tab and sends a camera of its own (its fake one) in another. Every few seconds something is done: a
style, a strength, a recording, a page that is loaded anew. What the server's process holds
(memory, threads, file descriptors), the age of frames and what was dropped are noted all along.
It fails where the last quarter holds more than the second did, or where frames grow older.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import torch
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from benchmarks import machine

EVERY = 5.0
"""Seconds between two looks."""

BOUNDS = {"rss_mb": 1.04, "threads": 1.0, "files": 1.0, "age_ms": 1.5}
"""What of the second quarter's median the last quarter's may be, and a little more (`SLACK`)."""

SLACK = {"rss_mb": 24.0, "threads": 1.0, "files": 2.0, "age_ms": 200.0}

Figures: TypeAlias = dict[str, float | None]
"""By name; None where it was not to be had."""

STYLES = ("starry_night", "wave", "the_scream", "udnie")


def main() -> int:
    """Runs, prints a line a minute and a table, and writes ``soak.json``."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30, help="after the first frames")
    parser.add_argument("--size", type=int, default=192, help="longest side of the live picture")
    parser.add_argument("--camera", type=int, default=20, help="FPS of the browser's camera")
    parser.add_argument("--out", type=Path, help="a folder in place of the machine's class")
    parser.add_argument("more", nargs="*", help="KEY=VALUE for cbs-live")
    args = parser.parse_args()
    if args.out:
        machine.untaken(parser, args.out / "soak.json")
    if args.minutes * 60 <= 4 * EVERY:
        parser.error(
            f"--minutes={args.minutes:g} is too short: four looks are due, {EVERY:g} s apart"
        )
    facts = machine.facts(torch.device("cpu"))
    with (
        tempfile.TemporaryDirectory() as folder,
        served(folder, args.size, args.more) as (url, process),
        browser(folder, args.camera) as driver,
    ):
        rows = list(evening(url, process, driver, 60 * args.minutes))
        driver.switch_to.window(driver.window_handles[1])
        way = driver.find_element("id", "source").text
    quarter = len(rows) // 4
    result = {"machine": facts, "minutes": args.minutes, "size": args.size, "more": args.more}
    result |= {"camera": args.camera, "way": way}
    result["quarters"] = [summary(rows[at * quarter : (at + 1) * quarter]) for at in range(4)]
    result["frames"], result["dropped"] = rows[-1]["frames"], rows[-1]["dropped"]
    result["grown"] = grown(result["quarters"][1], result["quarters"][3])
    print(table(result["quarters"]))
    print(
        f"{result['frames']} frames, {result['dropped']} dropped; {way}; "
        f"grown: {result['grown'] or '-'}"
    )
    out = args.out or machine.RESULTS / str(facts["class"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "soak.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if result["grown"] else 0


@contextmanager
def served(
    folder: str, size: int, more: list[str]
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Starts ``cbs-live``; yields its address and its process."""
    command = [
        *(str(Path(sysconfig.get_path("scripts")) / "cbs-live"), "input=pan:sample:astronaut"),
        *("routes={person: wave}", f"size={size}", "port=0", f"recordings={folder}"),
        *(f"hydra.run.dir={folder}", *more),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = ""
            for line in process.stdout:
                print(line, end="", flush=True)
                if "the studio is at" in line:
                    url = line.split()[4]
                if "the studio is open" in line:
                    yield url, process
                    break
            else:
                raise SystemExit("cbs-live did not start")
        finally:
            process.terminate()


@contextmanager
def browser(folder: str, fps: int) -> Iterator[Any]:
    """Starts Chromium without a window, with a fake camera of so many frames a second."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--use-fake-ui-for-media-stream", f"--use-fake-device-for-media-stream=fps={fps}"),
        *(f"--user-data-dir={folder}/profile", "--disable-background-timer-throttling"),
        *("--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows"),
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def evening(
    url: str, process: "subprocess.Popen[str]", driver: Any, seconds: float
) -> Iterator[Figures]:
    """Opens two tabs, does things, and yields what is held, every `EVERY` seconds."""
    server, window = psutil.Process(process.pid), psutil.Process(driver.service.process.pid)
    driver.get(url)
    driver.switch_to.new_window("tab")
    driver.get(url)
    wait(lambda: ask(url, "state")["frames"] > 3)
    driver.execute_script("document.getElementById('camera').click()")
    begun = time.monotonic()
    turn = 0
    while (now := time.monotonic() - begun) < seconds:
        act(url, driver, turn)
        told = ask(url, "state")
        each = [window, *window.children(recursive=True)]
        yield {
            "seconds": now,
            "rss_mb": server.memory_info().rss / 2**20,
            "threads": server.num_threads(),
            "files": server.num_fds() if hasattr(server, "num_fds") else 0,
            "browser_mb": sum(memory(one) for one in each) / 2**20,
            "fps": told["fps"],
            "age_ms": told["age_p50"],  # None where nothing was shown of late
            "frames": told["frames"],
            "dropped": told["dropped"],
        }
        if turn % 12 == 0:
            print(f"{now / 60:5.1f} min: {told['fps']} fps, {told['dropped']} dropped", flush=True)
        turn += 1
        time.sleep(max(0.0, begun + turn * EVERY - time.monotonic()))


def act(url: str, driver: Any, turn: int) -> None:
    """Does one of the things that visitors do."""
    style = STYLES[turn // 3 % len(STYLES)]
    what = turn % 12
    if what in (1, 4, 7):
        paint = {"style": style, "strength": 0.5 + 0.5 * (turn % 2), "keep_color": turn % 5 == 0}
        ask(url, "look", "PATCH", {"routes": {"person": paint}})
    elif what == 2:
        ask(url, "recording", "POST")
    elif what == 5:
        ask(url, "recording", "DELETE")
    elif what == 9:  # both tabs, by turns; a camera is opened anew with its page
        driver.switch_to.window(driver.window_handles[turn // 12 % 2])
        driver.refresh()
        if turn // 12 % 2:
            driver.execute_script("document.getElementById('camera').click()")


def ask(url: str, path: str, method: str = "GET", body: object = None) -> Any:
    """Asks the HTTP API."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(f"{url}v1/{path}", data, method=method), timeout=60) as answer:
            return json.load(answer)
    except HTTPError as error:
        raise SystemExit(f"{method} {path}: {error.read().decode()}") from error


def memory(process: psutil.Process) -> float:
    """Returns a process' own bytes; of one that is gone, none."""
    try:
        return float(process.memory_info().rss)
    except psutil.Error:
        return 0.0


def wait(true: Any, seconds: float = 300) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit("nothing is shown")
        time.sleep(0.5)


def summary(rows: Sequence[Figures]) -> Figures:
    """Returns the median of each figure, of the looks that had it; None where none had."""
    found: Figures = {}
    for key in ("rss_mb", "threads", "files", "browser_mb", "fps", "age_ms"):
        had = [one for row in rows if (one := row[key]) is not None]
        found[key] = round(statistics.median(had), 1) if had else None
    return found


def grown(early: Figures, late: Figures) -> list[str]:
    """Returns what grew from the second quarter to the last, and what ceased to be had."""
    found = []
    for key, by in BOUNDS.items():
        before, after = early[key], late[key]
        if before is not None and (after is None or after > before * by + SLACK[key]):
            found.append(key)
    return found


def table(quarters: Sequence[Figures]) -> str:
    """Returns the quarters, a row each, as Markdown."""
    keys = list(quarters[0])
    rows = []
    for at, one in enumerate(quarters, 1):
        figures = ("-" if (value := one[key]) is None else f"{value:g}" for key in keys)
        rows.append(f"| {at} | {' | '.join(figures)} |")
    return "\n".join(
        ["| quarter | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|", *rows]
    )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
