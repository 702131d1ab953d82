"""The sound of a live stream, decoded beside its pictures, on the same clock as they."""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from cbs_core.contract.live import SOUND_RATE, Heard, Sound

WINDOW = 1.0
"""Seconds; how late a stream comes is what it was at its best in the last one or two of these."""

LEAP = 2.0
"""Seconds by which a stream's own times may leap before they are set anew."""

CODECS = {".webm": "libopus"}
"""Suffix -> the encoder of sound; of all others AAC."""


class Lateness:
    """Turns a stream's own times into those of `time.monotonic`.

    What comes over a network comes in bursts. Sound and picture that belong together come at
    different moments, but have the same time on the stream's clock; so the quickest packet of late
    tells how far the two clocks are apart.
    """

    def __init__(self) -> None:
        self.seconds = math.inf
        """By which the clocks are apart; infinite until a frame has come."""

        self._before = self._now = math.inf
        self._since = -math.inf

    def __call__(self, stamp: Fraction, arrived: float) -> float:
        """Returns when a frame was captured that came at ``arrived``: no later than that."""
        lag = arrived - float(stamp)
        if abs(lag - self.seconds) > LEAP:
            self._before = self._now = math.inf
        if arrived - self._since > WINDOW:
            self._before, self._now, self._since = self._now, math.inf, arrived
        self._now = min(self._now, lag)
        self.seconds = min(self._before, self._now)
        return float(stamp) + self.seconds


class Hearing:
    """Decodes a container's first sound, and hands it on where somebody listens.

    Args:
        container: what is read.
        late: of its pictures.
        listeners: who is given each piece; looked at anew for each.
    """

    def __init__(
        self,
        container: InputContainer,
        late: Lateness,
        listeners: "list[Callable[[Heard], object]]",
    ) -> None:
        found = container.streams.audio
        self.stream = found[0] if found and found[0].codec_context is not None else None
        self._late = late
        self._listeners = listeners
        self._plain = AudioResampler("fltp", "stereo", SOUND_RATE)
        self._kind: tuple[str, str, int] | None = None

    def __call__(self, packet: "Packet[Stream]") -> None:
        """Takes a packet of `stream`."""
        if not self._listeners or not packet.size or math.isinf(self._late.seconds):
            return
        assert self.stream is not None
        try:
            frames = self.stream.codec_context.decode(packet)
        except av.FFmpegError:  # a stream is often joined in the midst of a packet
            return
        for frame in frames:
            if frame.pts is None or frame.time_base is None:
                continue
            begun = float(frame.pts * frame.time_base) + self._late.seconds
            for plain in self._resampled(frame):
                piece = Heard(plain.to_ndarray().astype(np.float32, copy=False), begun)
                begun += piece.samples.shape[1] / SOUND_RATE
                for listener in self._listeners:
                    listener(piece)

    def _resampled(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if kind != self._kind:
            # One in mono follows a programme in stereo: PyAV refuses it, or passes it on as it is.
            self._kind = kind
            self._plain = AudioResampler("fltp", "stereo", SOUND_RATE)
        return self._plain.resample(frame)


class Spoken:
    """Sound that is encoded into a file or a broadcast as far as its pictures are.

    Args:
        output: the file, before its header is written.
        suffix: of the file, in lower case; empty of a broadcast.
        sound: what there is to hear.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, output: OutputContainer, suffix: str, sound: Sound) -> None:
        self._sound = sound
        stream = output.add_stream(CODECS.get(suffix, "aac"), rate=SOUND_RATE)
        assert isinstance(stream, AudioStream)
        stream.layout = "stereo"
        self._stream = stream
        self._given = 0

    def until(self, end: Fraction | None, *, exact: bool = False) -> Iterator["Packet[Stream]"]:
        """Yields packets of what was heard up to then; None: the last of it."""
        if end is None:
            yield from self._stream.encode(None)
            return
        while (samples := self._sound.until(end)).shape[1]:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", "stereo")
            frame.sample_rate, frame.time_base = SOUND_RATE, Fraction(1, SOUND_RATE)
            frame.pts = self._given
            self._given += samples.shape[1]
            yield from self._stream.encode(frame)
