"""Segments of a video, each encoded by itself, as the packets of one stream."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from cbs_core.contract.errors import SinkError, SourceError
from cbs_core.contract.types import Segment
from cbs_plugins.formats.media import open_media

_FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
"""Codec -> FFmpeg's filter that undoes what a container does to its packets."""


def packets(
    segments: Sequence[Segment], tick: Fraction, start: Fraction = Fraction(0)
) -> "Iterator[Packet[VideoStream]]":
    """Yields the packets of all segments, in the order of decoding, with the times of one stream.

    A container may round times. So the frames' own are taken, by the order in which a segment's
    packets are shown. A packet's time of decoding is the time of the frame that is shown as many
    places before it as packets are shuffled at the most.

    Args:
        segments: in order.
        tick: seconds, the unit of the packets' times.
        start: seconds of the stream that are 0.

    Raises:
        SinkError: a segment does not hold its frames.
    """
    ticks = [round((time - start) / tick) for segment in segments for time in segment.times]
    orders = [_order(segment) for segment in segments]
    depth = max(at - rank for order in orders for at, rank in enumerate(order))
    last = segments[-1].duration or Fraction(0)
    ends = [*ticks[1:], ticks[-1] + max(round(last / tick), 1)]
    first = 0
    for segment, order in zip(segments, orders, strict=True):
        with open_media(segment.path) as media:
            stream = media.streams.video[0]
            for at, packet in enumerate(_as_encoded(media, stream)):
                shown = first + order[at]
                packet.time_base = tick
                packet.pts, packet.dts = ticks[shown], _decoded(ticks, first + at, depth)
                packet.duration = ends[shown] - ticks[shown]
                yield packet
        first += len(order)


def _as_encoded(media: InputContainer, stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
    """Yields a segment's packets as the encoder gave them, before a container changed them."""
    name = _FILTERS.get(stream.codec_context.name.removeprefix("lib"))
    if name is None:
        yield from (packet for packet in media.demux(stream) if packet.size)
        return
    back = BitStreamFilterContext(name, stream)
    for packet in media.demux(stream):
        if packet.size:
            yield from back.filter(packet)
    yield from back.filter(None)


def _decoded(ticks: Sequence[int], place: int, depth: int) -> int:
    if place >= depth:
        return ticks[place - depth]
    before = ticks[depth] - ticks[0]  # as x264 begins a stream
    return ticks[place] - before


def _order(segment: Segment) -> list[int]:
    """Returns the place in which each packet is shown, in the order of decoding."""
    try:
        with open_media(segment.path) as media:
            times = [p.pts or 0 for p in media.demux(media.streams.video[0]) if p.size]
    except (SourceError, IndexError) as error:
        raise SinkError(_damaged(segment)) from error
    places = {time: place for place, time in enumerate(sorted(times))}
    if not len(places) == len(times) == len(segment.times):
        raise SinkError(_damaged(segment))
    return [places[time] for time in times]


def _damaged(segment: Segment) -> str:
    return (
        f"'{segment.path}' does not hold the {len(segment.times)} frames that were written into "
        f"it: remove '{segment.path.parent}' to begin anew"
    )
