"""A window in a process of its own: run as a script by `cbs_plugins.sinks.window`.

Its main thread is the toolkit's, as macOS wants it; it answers while a frame is computed; and what
it needs (tkinter, Pillow) costs the run nothing. Frames and lines come in by the standard input,
keys go out by the standard output.
"""

import struct
import sys
import threading
import tkinter
from collections.abc import Callable
from typing import BinaryIO

from PIL import Image, ImageTk

HEAD = struct.Struct(">cII")
"""What comes: ``f``, width, height, then RGB; or ``t``, length, 0, then a line to show in UTF-8."""

TOLD_MS = 2500
"""How long a line is shown."""

POLL_MS = 4


class Viewer:
    """Shows the newest frame, as large as the window is.

    Args:
        root: the window.
        say: told each key by its name in Tk.
    """

    def __init__(self, root: tkinter.Tk, say: Callable[[str], None]) -> None:
        self.root = root
        self.frame: tuple[int, int, bytes] | None = None
        self.line: str | None = None
        self.over = False
        self._picture: ImageTk.PhotoImage | None = None
        self._sized = False
        self._canvas = tkinter.Canvas(root, background="black", highlightthickness=0)
        self._canvas.pack(fill="both", expand=True)
        self._place = self._canvas.create_image(0, 0)
        self._text = self._canvas.create_text(
            12, 10, anchor="nw", fill="white", font=("TkDefaultFont", 14)
        )
        self._erase: str | None = None
        root.title("CBS")
        root.protocol("WM_DELETE_WINDOW", lambda: say("Escape"))
        root.bind("<Key>", lambda event: say(event.keysym))
        root.bind("f", lambda _: root.attributes("-fullscreen", not self._full()))
        root.after(POLL_MS, self._poll)

    def _full(self) -> bool:
        return bool(self.root.attributes("-fullscreen"))

    def _poll(self) -> None:
        if self.over:
            self.root.destroy()
            return
        frame, self.frame = self.frame, None
        if frame is not None:
            self._show(*frame)
        line, self.line = self.line, None
        if line is not None:
            self._tell(line)
        self.root.after(POLL_MS, self._poll)

    def _show(self, width: int, height: int, pixels: bytes) -> None:
        if not self._sized:
            self._sized = True
            share = min(
                1.0,
                0.9 * self.root.winfo_screenwidth() / width,
                0.9 * self.root.winfo_screenheight() / height,
            )
            self.root.geometry(f"{round(width * share)}x{round(height * share)}")
            self.root.update_idletasks()
        across, down = max(self._canvas.winfo_width(), 16), max(self._canvas.winfo_height(), 16)
        share = min(across / width, down / height)
        size = max(round(width * share), 1), max(round(height * share), 1)
        picture = Image.frombuffer("RGB", (width, height), pixels, "raw", "RGB", 0, 1)
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        # Tk keeps no reference of its own.
        self._picture = ImageTk.PhotoImage(picture)
        self._canvas.itemconfigure(self._place, image=self._picture)
        self._canvas.coords(self._place, across // 2, down // 2)

    def _tell(self, line: str) -> None:
        if self._erase is not None:
            self.root.after_cancel(self._erase)
        self._canvas.itemconfigure(self._text, text=line)
        self._canvas.tag_raise(self._text)
        self._erase = self.root.after(
            TOLD_MS, lambda: self._canvas.itemconfigure(self._text, text="")
        )


def read(source: BinaryIO, viewer: Viewer) -> None:
    """Takes what comes, until there is no more."""
    while len(head := source.read(HEAD.size)) == HEAD.size:
        kind, first, second = HEAD.unpack(head)
        if kind == b"f":
            viewer.frame = (first, second, source.read(first * second * 3))
        else:
            viewer.line = source.read(first).decode(errors="replace")
    viewer.over = True


def main() -> None:
    """Runs the window until the input ends."""
    from cbs_core.machine import signals

    signals.ignore()  # they are the run's, which then closes this

    def say(key: str) -> None:
        print(key, flush=True)

    try:
        root = tkinter.Tk()
    except tkinter.TclError as error:
        print(f"failed {error}", flush=True)
        return
    viewer = Viewer(root, say)
    say("ready")
    threading.Thread(target=read, args=(sys.stdin.buffer, viewer), daemon=True).start()
    root.mainloop()


if __name__ == "__main__":
    main()
