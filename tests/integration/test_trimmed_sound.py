"""The sound of a part of a video, sample by sample: that of the source, from the cut to the end."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from cbs_plugins.sinks.folder import FolderSink
from cbs_plugins.sinks.video import VideoSink
from cbs_plugins.sources.video import VideoSource

from tests.media import picture

RATE, SECONDS = 48000, 4


def clip(path: Path, codec: str, late: float = 0.0) -> Path:
    """Some seconds with a rising tone, of which no part is like another."""
    time = np.arange(RATE * SECONDS) / RATE
    tone = (0.5 * np.sin(2 * np.pi * (300 + 150 * time) * time)).astype(np.float32)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        sound = out.add_stream(codec, rate=RATE, layout="mono")
        planar = sound.codec_context.format.name
        for index in range(25 * SECONDS):
            frame = VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(frame))
        resampler = av.AudioResampler(planar, "mono", RATE)
        for start in range(0, len(tone), 960):
            frame = AudioFrame.from_ndarray(tone[None, start : start + 960], "flt", "mono")
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.pts = start + round(late * RATE)
            for part in resampler.resample(frame):
                out.mux(sound.encode(part))
        out.mux(sound.encode(None))
        out.mux(video.encode(None))
    return path


def heard(path: Path) -> np.ndarray:
    """Its samples from time 0 on; NaN where there is none."""
    found = np.full(RATE * (SECONDS + 2), np.nan, np.float32)
    last = 0
    with av.open(str(path)) as media:
        resampler = av.AudioResampler("flt", "mono", RATE)
        for frame in media.decode(audio=0):
            for part in resampler.resample(frame):
                samples = part.to_ndarray()[0]
                at = round(part.pts * part.time_base * RATE)
                samples, at = samples[max(-at, 0) :], max(at, 0)
                found[at : at + len(samples)] = samples
                last = at + len(samples)
    return found[:last]


def trimmed(source: Path, target: Path, start: str, end: str) -> tuple[Path, list[str], float]:
    """Writes a part; returns the file with its sound, what was told, and the part's seconds."""
    sink = VideoSink(str(target)) if target.suffix else FolderSink(str(target))
    with VideoSource(str(source), start=start, end=end) as video:
        sink.open(video.info)
        for frame in video:
            sink.write(frame)
        sink.close()
    file = target if target.suffix else next(target.glob("sound*"))
    return file, list(sink.notes), float(frame.pts + frame.duration)


KINDS = [
    ("aac", ".mp4", "sound.m4a"),
    ("libmp3lame", ".mp4", "sound.mp4"),
    ("libopus", ".mp4", "sound.opus"),
    ("pcm_s16le", ".mov", "sound.mov"),
    ("flac", ".mkv", "sound.mp4"),
]


@pytest.mark.parametrize("into", ["file", "folder"])
@pytest.mark.parametrize(("codec", "suffix", "named"), KINDS, ids=[kind[0] for kind in KINDS])
def test_it_begins_at_the_cut(
    tmp_path: Path, codec: str, suffix: str, named: str, into: str
) -> None:
    source = clip(tmp_path / f"a{suffix}", codec)
    target = tmp_path / ("b.mp4" if suffix == ".mkv" else f"b{suffix}")
    if into == "folder":
        target = tmp_path / "b"
    file, _, lasts = trimmed(source, target, "1.21", "3.03")
    assert into == "file" or file.name == named
    want, got = heard(source)[round(1.21 * RATE) :], heard(file)
    length = round(lasts * RATE)
    assert length <= len(got) < length + 0.1 * RATE  # the last packet is whole
    assert np.nanmax(np.abs(got[:length] - want[:length])) < 0.01
    assert not np.isnan(got).any()


def test_matroska_says_what_of_it_is_missing(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mkv", "flac")
    file, notes, _ = trimmed(source, tmp_path / "b.mkv", "1.21", "3.03")
    got, want = heard(file), heard(source)[round(1.21 * RATE) :]
    silent = int(np.isnan(got).sum())
    assert 0 < silent < 0.1 * RATE
    assert np.abs(got[silent:RATE] - want[silent:RATE]).max() < 0.01
    (told,) = [note for note in notes if "sound" in note]
    assert f"{silent / RATE:.3f} s later" in told


def test_sound_that_begins_late_is_not_moved_to_the_start(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mov", "pcm_s16le", late=0.5)
    with VideoSource(str(source)) as video:
        sink = FolderSink(str(tmp_path / "b"))
        sink.open(video.info)
        for frame in video:
            sink.write(frame)
        sink.close()
    got = heard(next((tmp_path / "b").glob("sound*")))
    assert int(np.isnan(got).sum()) == RATE // 2
