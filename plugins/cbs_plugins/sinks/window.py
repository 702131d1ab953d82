"""A window on the screen, in a process of its own (`cbs_plugins.formats.viewer`)."""

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from cbs_core.contract.errors import SinkClosedError, SinkError, SinkLostError
from cbs_core.contract.live import Controls
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_plugins.formats import viewer

OPENING = 30.0
"""Seconds that the window may take to come up."""

GLANCE = 0.1
LEAVE = 1.0
"""Seconds that the process is given to end by itself."""

CLOSING = ("Escape", "q")
HELP = "left, right: style · up, down: strength · tab: route · f: whole screen · Esc: end"


class WindowSink:
    """Shows frames as they come; ``Esc``, ``q`` or closing the window ends it.

    Keys: left and right choose the style of a route, up and down its strength, Tab the route; ``f``
    fills the screen, ``h`` shows the keys.

    Args:
        path: not used.

    Raises:
        SinkError: no window can be opened here.
        SinkClosedError: it was closed.
    """

    live = True

    def __init__(self, path: str | None = None) -> None:
        self._controls: Controls | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._said: SimpleQueue[str] = SimpleQueue()
        self._closed = threading.Event()
        self._lock = threading.Lock()

    @property
    def left(self) -> bool:
        """Whether it was closed."""
        return self._closed.is_set()

    def control(self, controls: Controls, /) -> None:
        """Takes what the keys act on."""
        self._controls = controls

    def open(self, info: StreamInfo, /) -> None:
        """Opens the window and waits until it is there."""
        self._process = subprocess.Popen(
            [sys.executable, "-X", "utf8", str(Path(viewer.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        threading.Thread(target=self._listen, name="cbs-keys", daemon=True).start()
        said = ""
        for _ in range(round(OPENING / GLANCE)):
            with suppress(Empty):
                said = self._said.get(timeout=GLANCE)
                break
        if said != "ready":
            self.abort()
            raise SinkError(_refused(said))
        self._tell(HELP)

    def write(self, frame: RawFrame, /) -> None:
        """Shows a frame."""
        if self._closed.is_set():
            raise SinkClosedError
        pixels = frame.pixels.cpu().contiguous().numpy()
        height, width = pixels.shape[:2]
        try:
            self._send(viewer.HEAD.pack(b"f", width, height), pixels.tobytes())
        except OSError as error:
            if self._closed.is_set():
                raise SinkClosedError from error
            raise SinkLostError("the window is gone: its process ended") from error

    def close(self, *, complete: bool = True) -> None:
        """Closes the window."""
        process, self._process = self._process, None
        self._closed.set()
        if process is None:
            return
        with suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()
        try:
            process.wait(LEAVE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def abort(self) -> None:
        """Closes the window."""
        self.close(complete=False)

    def _send(self, *parts: bytes) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with self._lock:
            for part in parts:
                process.stdin.write(part)
            process.stdin.flush()

    def _tell(self, line: str) -> None:
        text = line.encode()
        with suppress(OSError, ValueError):  # closed meanwhile
            self._send(viewer.HEAD.pack(b"t", len(text), 0), text)

    def _listen(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        with process.stdout as said:
            first = said.readline().decode(errors="replace").strip()
            self._said.put(first)
            for line in said:
                self._press(line.decode(errors="replace").strip())

    def _press(self, key: str) -> None:
        if key in CLOSING:
            self._closed.set()
            return
        if key == "h":
            self._tell(HELP)
        if self._controls is None:
            return
        acts: dict[str, Callable[[], str]] = {
            "Left": lambda: self._acts.style(-1),
            "Right": lambda: self._acts.style(1),
            "Up": lambda: self._acts.strength(0.1),
            "Down": lambda: self._acts.strength(-0.1),
            "Tab": lambda: self._acts.route(1),
            "ISO_Left_Tab": lambda: self._acts.route(-1),
        }
        if key in acts:
            self._tell(acts[key]())

    @property
    def _acts(self) -> Controls:
        assert self._controls is not None
        return self._controls


def _refused(said: str) -> str:
    why = said.removeprefix("failed ").strip()
    if not why:
        return (
            "no window can be opened: this Python has no tkinter; install it (Debian and Ubuntu: "
            "apt install python3-tk; macOS: brew install python-tk), or choose another output="
        )
    return (
        f"no window can be opened ({why}): run it where there is a screen (over ssh: set DISPLAY), "
        "or choose another output="
    )
