"""Sound of streams in what is made of them: numbered pictures and beeps of one on the loopback.

A live frame may be dropped, and a flash then shows with the next one. So every picture tells by its
number when it was sent, and a beep is compared with whichever picture is there.
"""

import math
import socket
import threading
import time
from contextlib import contextmanager, suppress
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from cbs_plugins.formats.hearing import Hearing, Lateness
from cbs_plugins.sources.stream import StreamSource

from cbs_core.contract.live import SOUND_RATE, Heard
from cbs_core.contract.types import StreamInfo
from cbs_core.live.reading import Reading
from cbs_core.live.recording import Recording
from cbs_core.live.sending import Sending
from cbs_core.run.hearing import GRACE, MOST, Track
from cbs_core.run.settings import outputs
from tests import jobs, live

FPS, RATE = 25, 44_100

EVERY, LASTS = 1.0, 0.2
"""Seconds between two beeps, and of each."""

BITS, SQUARE = 5, 32
"""Of a picture's number within its second, and pixels of each bit's square."""


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    live.install(monkeypatch)


def beeping(first, count):
    """Returns mono samples of the stream, int16 ``(1,n)``."""
    seconds = (first + np.arange(count)) / RATE
    on = seconds % EVERY < LASTS
    return (on * 12_000 * np.sin(2 * math.pi * 1000 * seconds)).astype(np.int16)[None]


def numbered(index):
    """Returns a picture, uint8 ``(H,W,3)``, grey above its number within the second."""
    bits = (index % FPS >> np.arange(BITS)) & 1
    pixels = np.full((live.HEIGHT, live.WIDTH, 3), 120, np.uint8)
    pixels[live.HEIGHT // 2 :] = np.repeat(60 + 140 * bits, SQUARE)[None, :, None]
    return pixels


def number(grey):
    """Returns the number of a picture ``(H,W)``."""
    middles = grey[live.HEIGHT * 3 // 4, SQUARE // 2 : BITS * SQUARE : SQUARE] > 130
    return int((middles << np.arange(BITS)).sum())


def send(address, over):
    """Sends MPEG-TS at its own pace: numbered pictures, and a beep with each that has number 0."""
    with suppress(av.FFmpegError, OSError), av.open(address, "w", format="mpegts") as out:
        pictures = out.add_stream("mpeg2video", rate=FPS, width=live.WIDTH, height=live.HEIGHT)
        pictures.pix_fmt, pictures.gop_size, pictures.bit_rate = "yuv420p", 5, 2_000_000
        sound = out.add_stream("mp2", rate=RATE)
        sound.layout = "mono"
        begun, index, given = time.monotonic(), 0, 0
        while not over.wait(max(0, begun + index / FPS - time.monotonic())):
            frame = av.VideoFrame.from_ndarray(numbered(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(pictures.encode(frame))
            count = (index + 1) * RATE // FPS - given
            piece = av.AudioFrame.from_ndarray(beeping(given, count), "s16", "mono")
            piece.sample_rate, piece.pts, piece.time_base = RATE, given, Fraction(1, RATE)
            out.mux(sound.encode(piece))
            index, given = index + 1, given + count


def piece(layout, rate, at):
    """Returns 20 ms of silence that begin ``at`` seconds."""
    count = rate // 50
    silence = np.zeros((1 if layout == "mono" else 2, count), np.float32)
    made = av.AudioFrame.from_ndarray(silence, "fltp", layout)
    made.sample_rate, made.pts, made.time_base = rate, round(at * rate), Fraction(1, rate)
    return made


def test_sound_that_changes_its_channels_goes_on():
    frames = [piece("mono", 44_100, 0.0), piece("stereo", 48_000, 1.0), piece("mono", 44_100, 2.0)]

    def decode(packet):
        if not frames:
            raise av.error.PatchWelcomeError(0, "no such sound")
        return [frames.pop(0)]

    stream = SimpleNamespace(codec_context=SimpleNamespace(decode=decode))
    container = SimpleNamespace(streams=SimpleNamespace(audio=[stream]))
    late, heard = Lateness(), []
    late(Fraction(0), 10.0)
    hearing = Hearing(container, late, [heard.append])
    for _ in range(4):
        hearing(SimpleNamespace(size=1))
    assert [round(one.captured) for one in heard] == [10, 11, 12]
    assert all(one.samples.shape[0] == 2 for one in heard)


def free_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return f"udp://127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def broadcast():
    """Yields the address of a stream that is being sent."""
    over, address = threading.Event(), free_address()
    thread = threading.Thread(target=send, args=(address, over), daemon=True)
    thread.start()
    try:
        yield address
    finally:
        over.set()
        thread.join(20)


def recorded(path, seconds=math.inf):
    """Returns ``(times, numbers)`` of pictures and ``(times, loudness)`` of 5 ms of sound each.

    Of a broadcast, those of so many seconds.
    """
    frames, heard, step = [], [], SOUND_RATE // 200
    with av.open(str(path), timeout=(60, 20)) as container:
        for frame in container.decode():
            if isinstance(frame, av.VideoFrame):
                frames.append((frame.time, number(frame.to_ndarray(format="gray"))))
                if frame.time - frames[0][0] > seconds:
                    break
                continue
            left = frame.to_ndarray()[0]
            for at in range(0, len(left) - step + 1, step):
                heard.append((frame.time + at / SOUND_RATE, np.abs(left[at : at + step]).max()))
    return np.array(frames), np.array(heard)


def apart(frames, heard):
    """Returns how much later than its picture each beep begins, seconds; one a second.

    Without the first: how late a stream comes is known when it has come for a while.
    """
    loud = heard[:, 1] > 0.1
    beeps = heard[1:, 0][loud[1:] & ~loud[:-1]][1:]
    beside = frames[np.abs(frames[:, 0] - beeps[:, None]).argmin(1)]
    late = beeps - (beside[:, 0] - beside[:, 1] / FPS)
    return (late + EVERY / 2) % EVERY - EVERY / 2


@pytest.mark.alone  # takes times
def test_pictures_and_beeps_of_a_stream_fit_in_a_recording(tmp_path):
    with broadcast() as address, live.studio(size=live.WIDTH) as made:
        reading = Reading(made, lambda: StreamSource(address, open_s=30))
        reading.start()
        try:
            live.until(lambda: made.main.sounding and made.main.shown)
            recording = Recording(made.main, tmp_path)
            live.until(lambda: recording.seconds > 5.5)
            recording.close()
        finally:
            reading.close()
    assert recording.error is None
    frames, heard = recorded(recording.path)
    late = apart(frames, heard)
    assert len(late) >= 3
    assert np.abs(late).max() < 0.04, late
    assert abs(heard[-1, 0] - frames[-1, 0]) < 0.5 + GRACE


@pytest.mark.alone  # takes times
def test_pictures_and_beeps_of_a_stream_fit_in_a_broadcast_and_a_file_beside_it(tmp_path):
    got, sent_to, path = [], free_address(), tmp_path / "take.mp4"
    with broadcast() as address, live.studio(size=live.WIDTH) as made:
        with StreamSource(address, open_s=30) as source:
            live.until(lambda: source.sounds)
        info = StreamInfo(live.WIDTH, live.HEIGHT, Fraction(FPS), live=True)
        given = outputs({"output": [sent_to, str(path)]})
        sending = Sending(made.main, given, info, live.look(), tmp_path, sounds=True)
        reading = Reading(made, lambda: StreamSource(address, open_s=30))
        receiving = threading.Thread(target=lambda: got.append(recorded(sent_to, 5.5)))
        receiving.start()
        reading.start()
        try:
            receiving.join(120)
        finally:
            reading.close()
            sending.close()
    assert got, "nothing was received"
    for frames, heard in (got[0], recorded(path)):
        late = apart(frames, heard)
        assert len(late) >= 3
        assert np.abs(late).max() < 0.04, late


@pytest.mark.alone  # takes times
def test_pictures_and_beeps_of_a_stream_fit_in_what_cbs_run_makes(tmp_path, monkeypatch):
    jobs.registered(monkeypatch)
    over, begun, path, matte = threading.Event(), [], tmp_path / "take.mp4", tmp_path / "matte.mp4"

    @contextmanager
    def show(_):
        def tick():
            begun.append(time.monotonic())
            if begun[-1] - begun[0] > 6:
                over.set()

        yield tick

    address = free_address()
    sending = threading.Thread(target=send, args=(address, over), daemon=True)
    sending.start()
    source = {"name": "stream", "open_s": 30, "patience_s": 2, "reconnect": False}
    routes = {"sky": {"style": "dark", "strength": 0.2}}
    config = {"output": [str(path)], "output_matte": str(matte), "routes": routes}
    try:
        report = jobs.job(tmp_path, input=address, source=source, **config).run(show)
    finally:
        over.set()
        sending.join(20)
    assert "gave no frame for 2 s" in str(report.cut)
    frames, heard = recorded(path)
    late = apart(frames, heard)
    assert len(late) >= 3
    assert np.abs(late).max() < 0.04, late
    (made,) = tmp_path.glob("matte*.mp4")
    with av.open(str(made)) as container:
        assert not container.streams.audio


def test_a_source_without_sound_is_recorded_without(tmp_path):
    with live.studio() as made:
        live.shown(made)
        recording = Recording(made.main, tmp_path)
        live.shown(made)
        recording.close()
    with av.open(str(recording.path)) as container:
        assert not container.streams.audio


def ramp(first, count):
    return np.tile(np.arange(first, first + count, dtype=np.float32), (2, 1))


def heard_of(track, seconds):
    pieces = []
    while (piece := track.until(Fraction(seconds))).shape[1]:
        pieces.append(piece)
    return np.concatenate([*pieces, np.zeros((2, 0), np.float32)], axis=1)


def test_pieces_are_joined_where_they_nearly_fit_and_cut_where_the_picture_begins():
    track = Track()
    for number, slip in enumerate((0, 0.004, -0.008, 0.012)):
        track.put(Heard(ramp(4800 * number, 4800), 10 + number / 10 + slip))
    assert track.until(Fraction(1)).shape == (2, 0), "before the first picture there is no time"
    track.zero = 10.05
    found = heard_of(track, "0.2")
    assert (found == ramp(2400, 9600)).all()
    assert (heard_of(track, 1) == ramp(12_000, 7200)).all(), "what is not there yet comes later"
    assert not heard_of(track, 1).size


def test_where_a_source_is_silent_or_away_there_is_silence():
    track = Track()
    track.zero = 0.0
    track.put(Heard(ramp(1, 4800), 0.0))
    track.put(Heard(ramp(1, 4800), 0.5))
    found = heard_of(track, 1)
    assert found.shape == (2, 28_800)
    assert not found[:, 4800:24_000].any()
    assert found[0, 24_000] == 1
    assert track.until(Fraction(30)).shape == (2, MOST), "an hour is not given at once"
    rest = heard_of(track, 30)
    assert rest.shape[1] == (30 - GRACE) * SOUND_RATE - 28_800 - MOST
    assert not rest.any()
    track.put(Heard(ramp(1, 4800), 20.0))
    assert not heard_of(track, 30).any(), "what comes too late is not heard at another time"


def test_how_late_a_stream_is_is_what_it_was_at_its_best():
    late = Lateness()
    arrived = [100 + index / 25 + (index % 5) / 50 for index in range(60)]
    captured = [late(Fraction(index, 25), at) for index, at in enumerate(arrived)]
    assert captured == sorted(captured)
    assert all(one <= at for one, at in zip(captured, arrived, strict=True))
    assert captured[-1] == pytest.approx(100 + 59 / 25)
    slow = [late(Fraction(index, 25), 100.3 + index / 25) for index in range(60, 160)]
    assert slow[-1] == pytest.approx(100.3 + 159 / 25), "it stays later from now on"
    assert late(Fraction(7000), 107.0) == pytest.approx(107), "its own times leapt"
