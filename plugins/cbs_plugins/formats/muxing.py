"""How FFmpeg's muxers are asked to write a video file."""

import math
from fractions import Fraction

from av.container import InputContainer
from av.video.stream import VideoStream

from cbs_plugins.formats.tracks import MATROSKA, covers, unusual

_FINEST = 90_000
"""Ticks a second that times without a file behind them get at least; MPEG's clock."""

_FRAGMENT = 1_000_000
"""Microseconds of film that a run which is killed loses at the most."""


def time_base(source: VideoStream | None, rate: Fraction) -> Fraction:
    """Returns the unit of the pictures' times, in seconds: the source's own where it has one."""
    interval = 1 / rate
    if source is not None and source.time_base:
        return Fraction(source.time_base)
    # A whole part of the interval, so that index / rate is exact.
    return interval / max(round(_FINEST * interval), 1)


def muxer_options(
    suffix: str, media: InputContainer | None, tick: Fraction, *, bare: bool
) -> dict[str, str]:
    """Returns the options with which a file is playable as far as it goes while it is written.

    Args:
        suffix: of the file, in lower case.
        media: the file whose other streams come too.
        tick: the unit of the pictures' times.
        bare: whether there are pictures alone.
    """
    # Each fragment is on the disk when it is whole, for a run that is killed.
    options = {"flush_packets": "1"}
    if suffix in MATROSKA:
        # It would delay everything by the sound's priming samples, which lie before time 0.
        options["avoid_negative_ts"] = "disabled"
        options["cluster_time_limit"] = str(_FRAGMENT // 1000)
        return options
    # Where a stream starts is written in these units; the default is a millisecond.
    sound = media.streams.audio if media else ()
    units = [unit.time_base.denominator for unit in sound if unit.time_base]
    scale = math.lcm(tick.denominator, *units)
    options["movie_timescale"] = str(scale if scale < 2**31 else tick.denominator)
    flags = []
    if media is None or bare or not covers(media):
        # With cover art, fragments would leave an empty second video track in the file.
        flags.append("hybrid_fragmented+frag_keyframe")
        options |= {"frag_duration": str(_FRAGMENT), "use_editlist": "1"}
        if media is not None and not bare and unusual(media):
            flags.append("use_metadata_tags")  # which leaves cover art out
    if flags:
        options["movflags"] = "+".join(flags)
    return options
