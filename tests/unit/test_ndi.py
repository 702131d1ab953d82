"""NDI, sent by a sink of this process and received by another."""

import os
import subprocess
import sys
import time
import types
from fractions import Fraction
from uuid import uuid4

import pytest
import torch
from cbs_plugins.checks.live import live
from cbs_plugins.sinks import ndi
from cbs_plugins.sinks.ndi import NDISink

from cbs_core.choose.streams import is_for_files, sink_for
from cbs_core.contract.errors import SinkError, SinkLostError
from cbs_core.contract.interfaces import LiveSink
from cbs_core.contract.types import RawFrame, StreamInfo
from cbs_core.testing import SinkSuite
from cbs_core.testing.helpers import raw_frame

INFO = StreamInfo(96, 64, Fraction(29970029, 1000000), live=True)

RECEIVER = """
import sys, time
import numpy as np
from cyndilib import Finder, Receiver, RecvBandwidth, RecvColorFormat, VideoRecvFrame
from cyndilib.receiver import ReceiveFrameType

name, finder, end = sys.argv[1], Finder(), time.monotonic() + 30
finder.open()
while not (found := [one for one in finder.update_sources() if f"({name})" in one]):
    if time.monotonic() > end:
        sys.exit(3)
    time.sleep(0.05)
print("found", flush=True)
frame = VideoRecvFrame()
receiver = Receiver(
    color_format=RecvColorFormat.RGBX_RGBA, bandwidth=RecvBandwidth.highest
)
receiver.set_video_frame(frame)
receiver.set_source(finder.get_source(found[0]))
count, end = 0, time.monotonic() + 60
while count < 40 and time.monotonic() < end:
    if receiver.receive(ReceiveFrameType.recv_video, 100) & ReceiveFrameType.recv_video:
        width, height = frame.get_resolution()
        pixels = np.empty(frame.get_buffer_size(), np.uint8)
        frame.fill_p_data(pixels)
        rows = pixels.reshape(height, frame.get_line_stride())
        left, right = rows[height // 2, :3], rows[height // 2, 4 * width - 4 : 4 * width - 1]
        print(width, height, frame.get_frame_rate(), *left, *right, flush=True)
        count += 1
receiver.disconnect()
finder.close()
"""
"""Prints a line a frame: its sides, its rate, and its colours at the left and at the right."""


def named():
    """A name that no other test and no other run has."""
    return f"CBS {uuid4().hex}"


@pytest.fixture
def installed():
    pytest.importorskip("cyndilib", reason="needs cyndilib: the extra [ndi]")


@pytest.fixture
def sent(installed):
    """Opens senders, and closes them."""
    sinks = []

    def opened(name, info=INFO):
        sinks.append(NDISink(name))
        sinks[-1].open(info)
        return sinks[-1]

    yield opened
    for sink in sinks:
        sink.close()


@pytest.mark.usefixtures("installed")
class TestNDI(SinkSuite):
    plugin = "sink/ndi"
    writes_files = False

    def create(self, folder):
        return NDISink(named())


def halves(index, height=64, width=96):
    """Red at the left, blue at the right, so that swapped channels and mirrored pixels show."""
    pixels = torch.full((height, width, 3), 30, dtype=torch.uint8)
    pixels[:, : width // 2, 0] = 220
    pixels[:, width // 2 :, 2] = 180
    return RawFrame(pixels, index, Fraction(index, 25))


@pytest.mark.alone  # without Avahi only the first sender of a machine is found
def test_what_is_sent_is_received(sent, tmp_path):
    (tmp_path / "ndi-config.v1.json").write_text('{"ndi": {"networks": {"ips": "127.0.0.1"}}}')
    name = named()
    sink = sent(name)
    receiver = subprocess.Popen(
        [sys.executable, "-c", RECEIVER, name],
        env={**os.environ, "NDI_CONFIG_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        index = 0
        while receiver.poll() is None:
            sink.write(halves(index) if index % 2 else halves(index, 128, 192))
            index += 1
            time.sleep(0.02)
        lines = receiver.stdout.read().splitlines()
    finally:
        receiver.kill()
        receiver.communicate()
    if receiver.returncode == 3:
        pytest.skip("no Avahi, and another program sends by NDI: only the first one is found")
    assert lines[0] == "found"
    assert len(lines) == 41
    for line in lines[1:]:
        width, height, rate, *colours = line.split()
        assert (width, height, rate) == ("96", "64", "30000/1001")
        # NDI sends YUV, half as many of U and V as of Y.
        assert [int(one) for one in colours] == pytest.approx([220, 30, 30, 30, 30, 180], abs=16)


def test_the_name_is_said_behind_a_colon():
    assert isinstance(NDISink(), LiveSink)
    assert [sink_for("ndi"), sink_for("ndi:Studio 1")] == ["ndi", "ndi"]
    assert not is_for_files("sink", "ndi")
    names = [NDISink(one).name for one in (None, "", "ndi", "Studio 1")]
    assert names == ["CBS", "CBS", "CBS", "Studio 1"]


def test_a_name_is_one_senders_until_it_is_closed(sent, capfd):
    name = named()
    first = sent(name)
    with pytest.raises(SinkError, match=f"the name '{name}': another sender .* output=ndi:NAME"):
        sent(name)
    first.write(raw_frame(64, 96, 0))
    first.close()
    sent(name).write(raw_frame(64, 96, 0))
    with pytest.raises(SinkError, match="it is too long"):
        sent("x" * 300)
    assert "caught" not in "".join(capfd.readouterr())


def test_a_sender_that_takes_nothing_is_lost(sent):
    sink = sent(named())
    sink._sender.close()
    with pytest.raises(SinkLostError, match="NDI takes no more frames"):
        sink.write(raw_frame(64, 96, 0))


def test_without_the_package_or_its_runtime_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "cyndilib", None)
    with pytest.raises(SinkError, match=r"pip install 'class-based-styling\[ndi\]'"):
        NDISink().open(INFO)

    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "cyndilib":
                raise ImportError("libndi.so.6: cannot open\nshared object file")

    monkeypatch.delitem(sys.modules, "cyndilib")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(SinkError, match=r"cannot be loaded \(libndi\.so\.6: cannot open shared"):
        NDISink().open(INFO)


def test_where_receivers_find_nothing_is_told(sent, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ndi, "FINDER", tmp_path / "socket")
    monkeypatch.setenv("NDI_CONFIG_DIR", str(tmp_path))
    assert "avahi-daemon" in sent(named()).notes[0]
    (tmp_path / "socket").touch()
    assert sent(named()).notes == ()
    (tmp_path / "socket").unlink()
    (tmp_path / "ndi-config.v1.json").touch()
    assert sent(named()).notes == ()


def test_doctor_tells_of_ndi(monkeypatch):
    library = types.SimpleNamespace(ndi_version="NDI 6")
    monkeypatch.setitem(sys.modules, "cyndilib", library)
    for unseen, level, text in (("", "ok", "NDI 6"), ("no Avahi", "note", "no Avahi")):
        monkeypatch.setattr(ndi, "hidden", lambda unseen=unseen: unseen)
        found = {finding.subject: finding for finding in live()}["ndi"]
        assert found.level == level
        assert text in found.text
    monkeypatch.setitem(sys.modules, "cyndilib", None)
    found = {finding.subject: finding for finding in live()}["ndi"]
    assert found.level == "note"
    assert "class-based-styling[ndi]" in found.text
