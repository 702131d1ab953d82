"""Interlaced video: two half pictures, of two moments, in the lines of one frame."""

from collections.abc import Iterator

import av
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_INTERLACED = range(2, 6)
"""AVFieldOrder of interlaced streams (libavcodec/defs.h); 0 is unknown, 1 progressive."""


def is_interlaced(stream: VideoStream, frame: VideoFrame) -> bool:
    """Whether the container or a stream's first frame says so."""
    return stream.codec_context.field_order in _INTERLACED or frame.interlaced_frame


class Deinterlacer:
    """Makes one whole frame of each interlaced one (FFmpeg's bwdif); others pass untouched.

    Args:
        stream: whose frames will come.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        self._graph: Graph | None = None
        self._size: tuple[int, int, str] | None = None

    def __call__(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Yields as many frames as come, each at its own time."""
        for frame in frames:
            size = (frame.width, frame.height, frame.format.name)
            if size != self._size:
                yield from self._flush()
                self._graph, self._size = self._build(frame), size
            assert self._graph is not None
            self._graph.push(frame)
            yield from self._ready()
        yield from self._flush()

    def _build(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.link_nodes(
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=self._stream.time_base,
            ),
            graph.add("bwdif", "mode=send_frame:deint=interlaced"),
            graph.add("buffersink"),
        ).configure()
        return graph

    def _ready(self) -> Iterator[VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            assert isinstance(frame, VideoFrame)
            yield frame

    def _flush(self) -> Iterator[VideoFrame]:
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()
            self._graph = None
