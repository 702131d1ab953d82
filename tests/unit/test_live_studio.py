"""The studio without a server: feeds, plans between frames, what is done beside."""

import gc
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import pytest
import torch
import yaml
from pythonosc.udp_client import SimpleUDPClient

from cbs_core.choose import registry
from cbs_core.choose.sections import Choice
from cbs_core.contract.errors import ConfigError, SinkError, SinkLostError, SourceError
from cbs_core.contract.types import StreamInfo
from cbs_core.frame.sizes import parse_size
from cbs_core.live import osc, pictures, recording, shop, studio, wish
from cbs_core.live.feed import Taken
from cbs_core.live.inputs import Inputs
from cbs_core.live.reading import Reading
from cbs_core.live.recording import Recording
from cbs_core.live.sending import Sending
from cbs_core.live.studio import BusyError
from cbs_core.machine import background
from cbs_core.run import governed
from cbs_core.run.settings import outputs
from cbs_core.testing.runs import CameraSource, MemorySink
from tests import live
from tests.media import make_clip

CAR = (slice(live.HEIGHT // 2 + 16, -16), slice(20, 60))
SKY = (slice(4, 30), slice(None))


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    live.install(monkeypatch)


@pytest.fixture
def made():
    with live.studio() as studio:
        yield studio


def test_the_owners_look_is_the_first(made):
    out = live.shown(made)
    assert (out[CAR] == 51).all()
    assert (out[SKY] == live.picture()[SKY]).all()
    assert made.wish.routes == {"car": wish.Paint("dark")}


def test_a_change_shows_in_the_next_frames_and_is_told_back(made):
    new = made.change(made.main, {"routes": {"sky": {"style": "light", "strength": 0.5}}})
    live.until(lambda: not made.main.building)
    out = live.shown(made)
    assert (out[CAR] == 51).all()
    want = (live.picture()[SKY].astype(int) + 204) / 2
    assert np.abs(out[SKY] - want).max() <= 1
    assert new.to_json()["routes"]["sky"] == {
        "style": "light",
        "strength": 0.5,
        "keep_color": False,
    }
    made.change(made.main, {"routes": {"car": None}})
    live.until(lambda: not made.main.building)
    assert (live.shown(made)[CAR] == live.picture()[CAR]).all()


def test_each_styles_net_is_tried_before_the_first_frame_one_of_a_design(monkeypatch):
    """Else one whose design the owner's look has not runs by plain torch for the whole evening."""
    prepared = []

    class Net:
        chosen = ""

        def __init__(self, module):
            self.module, self.design, self.built = module, f"{module.level > 0.3}", set()

        def prepare(self, *inputs):
            raise AssertionError

        def __call__(self, image):
            prepared.append((self.module.level, tuple(image.shape)))
            return self.module(image)

    class Trying:
        def __call__(self, module, /, *, device, dtype, kind):
            return Net(module) if kind == "styler" else module

    monkeypatch.setitem(registry.accelerators._registered, "trying", Trying)
    with live.studio(styles=["dark", "light", "broken", "late"]) as studio:
        look = replace(studio.base, accelerator=Choice("trying"))
        studio.prepare(look, torch.from_numpy(live.picture()))
    assert [level for level, _ in dict.fromkeys(prepared)] == [0.2, 0.8]  # late is like light
    assert {shape for _, shape in prepared} == {(1, 3, live.HEIGHT, live.WIDTH)}


def test_what_is_there_at_the_start_is_not_looked_through_for_garbage():
    """In all that torch has made that takes 0.2 s, in which the picture would stand still."""
    with live.studio():
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0


def test_a_frame_and_a_net_that_is_tried_beside_it_have_the_cores_in_turn(made):
    """`test_accelerators` has the net."""
    held = []
    made.main.tap(lambda shown: held.append(background._cores.locked()))
    live.shown(made)
    assert held
    assert all(held)


TWO = np.concatenate([live.picture()[:, : live.WIDTH // 2]] * 2, axis=1)
"""Two cars, the second where the first has grey beside it."""

OTHER = (CAR[0], slice(CAR[1].start + live.WIDTH // 2, CAR[1].stop + live.WIDTH // 2))


def shown_of(made, pixels):
    before = made.main.meter.frames_out
    live.give(made, pixels)
    live.until(lambda: made.main.meter.frames_out > before)
    return made.main.shown.restyled


def test_of_two_cars_the_one_that_was_clicked_on_is_painted_alone(made):
    out = shown_of(made, TWO)
    assert (out[CAR] == 51).all()
    assert (out[OTHER] == 51).all()
    for place, painted, left in (((0.75, 0.75), OTHER, CAR), ((0.25, 0.75), CAR, OTHER)):
        told = made.change(made.main, {"only": [*place]}).to_json()
        assert told["only"] == [*place]
        assert made.change(made.main, told).only == place, "a page gives whole looks back"
        live.until(lambda: not made.main.building)
        out = shown_of(made, TWO)
        assert (out[painted] == 51).all()
        assert (out[left] == TWO[left]).all()
    made.change(made.main, {"only": None})
    live.until(lambda: not made.main.building)
    assert (shown_of(made, TWO)[OTHER] == 51).all()


def test_one_object_alone_is_of_these_pictures_and_of_no_others(made):
    shown_of(made, TWO)
    made.change(made.main, {"only": [0.75, 0.75]})
    live.until(lambda: not made.main.building)
    theirs = made.open_feed()
    assert theirs.wish.only is None
    live.until(lambda: not theirs.building)
    assert theirs.stream.plan.selection is None
    pixels = torch.from_numpy(TWO)
    assert (made.restyle(pixels, {}).result(60)[CAR] == 51).all()
    alone = made.restyle(pixels, {"only": [0.75, 0.75]}).result(60)
    assert (alone[CAR] == TWO[CAR]).all()
    assert (alone[OTHER] == 51).all()
    assert "select" not in yaml.safe_load(wish.preset(made.main.wish, made.base, made.catalog))
    shown_of(made, TWO[: live.HEIGHT - 8])  # of another size
    live.until(lambda: made.main.wish.only is None and not made.main.building)
    assert (shown_of(made, TWO[: live.HEIGHT - 8])[OTHER] == 51).all()


def test_a_click_is_what_lies_there_where_the_segmenter_finds_that():
    with live.studio(look=live.at_a_point()) as made:
        assert made.by_point
        assert (live.shown(made)[42:54, 74:86] == 51).all()
        made.change(made.main, {"only": [0.25, 0.5]})
        live.until(lambda: not made.main.building)
        out = live.shown(made)
        assert (out[42:54, 34:46] == 51).all()
        assert (out[42:54, 74:86] == live.picture()[42:54, 74:86]).all()


@pytest.mark.parametrize(
    "change",
    [
        {"routes": {"car": {"style": "/etc/passwd"}}},
        {"routes": {"car": {"style": "dark", "weights": "/etc/passwd"}}},
        {"routes": {"car": {"style": "dark", "styler": "johnson"}}},
        {"routes": {"bus": "dark"}},
        {"routes": {"car": {"style": "dark", "strength": 2}}},
        {"routes": {"car": {"style": "dark", "strength": float("nan")}}},
        {"routes": {"car": {"strength": True}}},
        {"routes": ["car"]},
        {"compositor": "os.system"},
        {"segmenter": "colours"},
        {"hydra.run.dir": "/tmp"},
        {"segment_every": 0},
        {"segment_every": 2.5},
        {"steady": 1},
        {"target_fps": 0},
        {"segment_size": 0},
        {"style_size": 0},
        {"style_size": "auto"},
        {"confidence": 1},
        {"size": 100_000},
        {"matte": None},
        {"only": [0.5]},
        {"only": [0.5, 2]},
        {"only": [0.5, True]},
        {"only": "0.5,0.5"},
        ["size"],
        7,
    ],
)
def test_nothing_but_what_is_offered_can_be_wished(made, change):
    before = made.main.wish
    with pytest.raises(ConfigError):
        made.change(made.main, change)
    assert made.main.wish is before


def test_200_changes_while_it_runs_and_no_frame_mixes_two(made):
    """Two routes of one level each: whatever a frame shows of both must be of one wish."""
    seen = []
    made.main.tap(
        lambda shown: seen.append(
            (int(shown.restyled[CAR].mean()), int(shown.restyled[SKY].mean()))
        )
    )
    ended = threading.Event()

    def feeding():
        while not ended.wait(0.002):
            live.give(made)

    thread = threading.Thread(target=feeding)
    thread.start()
    try:
        for number in range(200):
            one, other = ("dark", "light") if number % 2 else ("light", "dark")
            made.change(made.main, {"routes": {"car": one, "sky": other}})
            if number % 5 == 0:
                count = len(seen)
                live.until(lambda count=count: len(seen) > count)
        live.until(lambda: not made.main.building)
        count = len(seen)
        live.until(lambda: len(seen) > count + 2)
    finally:
        ended.set()
        thread.join()
    assert seen[-1] == (51, 204)
    sky = int(live.picture()[SKY].mean())
    assert set(seen) <= {(51, 204), (204, 51), (51, sky)}
    assert len(seen) > 40
    assert {(51, 204), (204, 51)} <= set(seen)


def test_a_rate_is_held_for_every_look_and_given_up_again(monkeypatch):
    """A frame takes 0.2 s, and 0.05 s where half a side is segmented."""

    class Slow(live.Colours):
        def forward(self, image):
            time.sleep(0.2 * image.shape[2] * image.shape[3] / (live.HEIGHT * live.WIDTH))
            return super().forward(image)

    monkeypatch.setitem(registry.segmenters._registered, "colours", Slow)
    monkeypatch.setattr(governed, "SMALLEST", 16)
    with live.studio(target_fps=12) as made:
        main = made.main

        def until(true):
            live.until(lambda: live.shown(made) is not None and true())

        until(lambda: main.governed and main.governed.line())
        assert "to hold 12 FPS" in main.governed.line()
        until(lambda: main.stream.plan.segment_size is not None)
        made.change(main, {"routes": {"car": "light"}})
        until(lambda: not main.building and main.stream.plan.routes[0].label == "light")
        assert main.stream.plan.segment_size < 1, "it is held by another style, too"
        made.change(main, {"target_fps": None})
        until(lambda: not main.building)
        assert main.stream.plan.segment_size is None
        assert main.governed is None


def test_a_style_that_was_never_loaded_comes_while_the_stream_goes_on(made, monkeypatch):
    loaded = threading.Event()
    monkeypatch.setattr(live, "LOADED", loaded)
    live.shown(made)
    made.change(made.main, {"routes": {"car": "late"}})
    for _ in range(3):
        assert (live.shown(made)[CAR] == 51).all()
    assert made.main.building
    loaded.set()
    live.until(lambda: not made.main.building)
    assert (live.shown(made)[CAR] == 128).all()


def test_a_style_that_cannot_be_had_is_told_and_the_show_goes_on(made):
    made.change(made.main, {"routes": {"car": "broken"}})
    live.until(lambda: not made.main.building)
    assert "the file is damaged" in made.main.error
    assert (live.shown(made)[CAR] == 51).all()
    made.change(made.main, {"routes": {"car": "light"}})
    live.until(lambda: not made.main.building)
    assert made.main.error is None
    assert (live.shown(made)[CAR] == 204).all()


def test_a_feed_never_queues_and_counts_what_it_drops(made):
    made.close()
    for _ in range(10):
        live.give(made)
    assert made.main.dropped == 9
    assert made.main.take() is not None
    assert made.main.take() is None


def test_feeds_take_turns_and_their_number_is_bounded():
    with live.studio(feeds=2) as made:
        own = [made.open_feed() for _ in range(2)]
        with pytest.raises(BusyError, match="try again"):
            made.open_feed()
        for feed in own:
            made.put(feed, Taken(torch.from_numpy(live.picture()), time.monotonic()))
        live.give(made)
        live.until(lambda: all(feed.meter.frames_out for feed in made.feeds.values()))
        made.change(own[0], {"routes": {"car": "light"}})
        assert made.main.wish.routes["car"].style == "dark"
        made.close_feed(own[0])
        assert made.open_feed()


def test_what_a_visitor_held_goes_back_to_the_system(made, monkeypatch):
    given = []
    monkeypatch.setattr(studio, "give_back", lambda: given.append(set(made.feeds)))
    made.close_feed(made.open_feed())
    feed = made.open_feed()
    made.put(feed, Taken(torch.from_numpy(live.picture()), time.monotonic()))
    live.until(lambda: feed.meter.frames_out)
    made.close_feed(feed)
    live.until(lambda: given)
    assert given == [{"main"}], "once, when it is gone, and of who brought a picture"


def test_a_frame_that_fails_is_told_and_the_next_is_done(made):
    made.put(made.main, Taken(torch.zeros(2, 2, 4, dtype=torch.uint8), time.monotonic()))
    live.until(lambda: made.main.error)
    assert live.shown(made) is not None


def test_views_picks_and_classes_in_view(made):
    live.shown(made)
    shown = made.main.shown
    assert shown.classes[shown.at(0.5, 0.1)] == "sky"
    assert shown.classes[shown.at(0.2, 0.75)] == "car"
    assert shown.classes[shown.at(1, 1)] == "background"
    assert [shown.classes[index] for index, _ in shown.in_view()] == ["sky", "background", "car"]
    for view in pictures.VIEWS:
        decoded = pictures.decode(shown.jpeg(view), pixels=10**6)
        assert decoded.shape == (live.HEIGHT, live.WIDTH, 3)
        assert shown.jpeg(view) is shown.jpeg(view)
    matte = shown.picture("matte")
    assert matte[CAR].min() == 255
    assert matte[SKY].max() == 0
    crop = shown.crop(1)
    assert crop.shape == (pictures.SIDE, pictures.SIDE, 3)
    assert (crop[66:95, 30:80] == (220, 30, 40)).all()
    assert shown.crop(2) is not None


def test_a_picture_beside_the_stream(made):
    future = made.restyle(torch.from_numpy(live.picture()), {"routes": {"sky": "light"}})
    out = future.result(20)
    assert (out[SKY] == 204).all()
    assert (out[CAR] == 51).all()
    assert made.main.wish.routes.keys() == {"car"}


def test_how_many_pictures_may_wait_is_bounded():
    with live.studio(waiting=2) as made:
        gate = threading.Event()
        made._pool.submit(gate.wait)
        first = [made.restyle(torch.from_numpy(live.picture()), {}) for _ in range(2)]
        with pytest.raises(BusyError):
            made.restyle(torch.from_numpy(live.picture()), {})
        gate.set()
        assert all(one.result(20) is not None for one in first)
        assert made.restyle(torch.from_numpy(live.picture()), {}).result(20) is not None


def test_the_gallery_is_painted_once(made):
    crop = live.picture()[:48, :48]
    painted = made.painted("light", crop).result(20)
    assert np.abs(pictures.decode(painted, pixels=10**4).numpy().astype(int) - 204).max() <= 2
    assert made.painted("light", crop).result(0) is painted
    with pytest.raises(ConfigError):
        made.painted("../x", crop)


def test_a_recording_has_the_times_of_capture(made, tmp_path):
    live.shown(made)
    begun = time.monotonic()
    recording = Recording(made.main, tmp_path)
    for _ in range(5):
        live.shown(made)
        time.sleep(0.05)
    live.until(lambda: recording.frames >= 4)
    took = time.monotonic() - begun
    recording.close()
    assert recording.over
    assert recording.error is None
    with av.open(str(recording.path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert len(times) == recording.frames
    assert 0.15 < times[-1] - times[0] < took


def test_a_camera_that_is_away_while_it_is_recorded_leaves_a_gap(made, tmp_path):
    """It may even come back in another size."""
    live.shown(made)
    recording = Recording(made.main, tmp_path)
    live.shown(made)
    time.sleep(0.5)
    live.give(made, live.picture()[::2, ::2])
    live.until(lambda: recording.frames == 2)
    recording.close()
    assert recording.error is None
    with av.open(str(recording.path)) as container:
        frames = list(container.decode(video=0))
    assert frames[1].time - frames[0].time >= 0.5
    assert [(one.width, one.height) for one in frames] == [(live.WIDTH, live.HEIGHT)] * 2


def test_a_recording_ends_before_the_disk_is_full(made, tmp_path, monkeypatch):
    live.shown(made)
    kept = Recording(made.main, tmp_path / "new")
    live.shown(made)
    monkeypatch.setattr(recording, "ROOM", 2**62)
    live.until(lambda: live.shown(made) is not None and kept.over)
    kept.close()
    assert (kept.error, kept.note) == (None, "the disk is nearly full")
    with av.open(str(kept.path)) as container:
        assert len(list(container.decode(video=0))) == kept.frames > 0
    with pytest.raises(SinkError, match="nearly full"):
        Recording(made.main, tmp_path)


def test_a_recording_that_fails_tells_no_path_of_the_owners(made, tmp_path, monkeypatch):
    class Failing(MemorySink):
        def __init__(self, path):
            super().__init__()
            self.path = path

        def write(self, frame):
            raise SinkError(f"writing '{self.path}' failed: a fault")

    monkeypatch.setattr(recording.registry.sinks, "create", lambda name, path: Failing(path))
    live.shown(made)
    kept = Recording(made.main, tmp_path)
    live.until(lambda: live.shown(made) is not None and kept.error)
    kept.close()
    assert kept.error == f"writing '{kept.path.name}' failed: a fault"


def test_the_owners_outputs_keep_their_size_and_the_times_of_capture(made, tmp_path):
    path = tmp_path / "take.mp4"
    info = StreamInfo(live.WIDTH, live.HEIGHT, rate=Fraction(10), live=True, name="clip")
    sending = Sending(
        made.main, outputs({"output": str(path)}), info, live.look(), tmp_path / "elsewhere"
    )
    live.shown(made)
    live.until(lambda: sending.frames == 1)
    live.give(made, live.picture()[::2, ::2])  # a visitor chose another size
    live.until(lambda: sending.frames == 2)
    sending.close()
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert [(one.width, one.height) for one in frames] == [(live.WIDTH, live.HEIGHT)] * 2
    assert np.abs(frames[1].to_ndarray(format="rgb24")[CAR].astype(int) - 51).max() < 12
    with pytest.raises(ConfigError, match="is there already"):
        Sending(made.main, outputs({"output": [str(path)]}), info, live.look(), tmp_path)
    assert outputs({"output": None}) == ()


def test_an_output_that_fails_does_not_end_the_show(made, monkeypatch, tmp_path, caplog):
    class Lost(MemorySink):
        def write(self, frame):
            raise SinkLostError("the server left")

    monkeypatch.setitem(registry.sinks._registered, "lost", lambda path=None: Lost())
    info = StreamInfo(live.WIDTH, live.HEIGHT, rate=Fraction(10), live=True, name="clip")
    sending = Sending(
        made.main, outputs({"output": [{"name": "lost"}]}), info, live.look(), tmp_path
    )
    live.until(lambda: live.shown(made) is not None and "goes on without it" in caplog.text)
    assert "the server left" in caplog.text
    live.shown(made)
    sending.close()


def test_a_file_is_played_again_and_again(made, tmp_path):
    path = tmp_path / "clip.mp4"
    make_clip(path, frames=4)
    reading = Reading(made, lambda: registry.sources.create("video", path=str(path)))
    reading.start()
    live.until(lambda: made.main.came >= 10)
    reading.close()
    came = made.main.came
    time.sleep(0.2)
    assert made.main.came == came


def test_a_source_that_fails_is_told_and_tried_again(made, tmp_path, monkeypatch):
    from cbs_core.live import reading as module

    monkeypatch.setattr(module, "PAUSES", (0.05,))
    path = tmp_path / "clip.mp4"
    reading = Reading(made, lambda: registry.sources.create("video", path=str(path)))
    reading.start()
    live.until(lambda: made.main.error)
    assert "clip.mp4" in made.main.error
    make_clip(path, frames=4)
    live.until(lambda: made.main.came >= 2 and made.main.error is None)
    reading.close()


class Desk(CameraSource):
    """Two cameras, of which one is broken."""

    sizes = ("640x480", "1280x720")
    opened: ClassVar = []

    @staticmethod
    def devices():
        return ["Front", "Broken"]

    def __init__(self, path=None, size="640x480"):
        super().__init__(seconds=0.01)
        if path == "Broken":
            raise SourceError("it cannot be opened")
        self.opened.append((path, size))


def test_another_camera_and_size_are_chosen_of_what_is_offered(made, monkeypatch):
    monkeypatch.setitem(registry.sources._registered, "desk", Desk)
    monkeypatch.setattr(Desk, "opened", [])
    inputs = Inputs(Choice("desk", {"size": "640x480"}), None)
    told = {"devices": ["Front", "Broken"], "sizes": ["640x480", "1280x720"]}
    assert inputs.offered() == told | {"device": "Front", "size": "640x480"}
    reading = Reading(made, inputs)
    reading.start()
    live.until(lambda: made.main.came > 2)
    for wrong in ({"device": "/dev/video0"}, {"size": "9x9"}, {"path": "Front"}, {}, ["Front"]):
        with pytest.raises(ConfigError):
            inputs.choose(wrong)
    inputs.choose({"size": "1280x720"})
    reading.again()
    live.until(lambda: Desk.opened[-1] == (None, "1280x720"))
    inputs.choose({"device": "Broken"})
    reading.again()
    live.until(lambda: made.main.error == "it cannot be opened")
    inputs.choose({"device": "Front"})
    reading.again()
    live.until(lambda: Desk.opened[-1] == ("Front", "1280x720") and made.main.error is None)
    assert inputs.shown == "Front"
    reading.close()


def painted_at(plan):
    return [getattr(one, "scale", None) for one in plan.stylings.values()]


def test_osc_changes_the_picture_and_nothing_that_is_not_offered(made, caplog):
    listening = osc.Listening(made, 0)
    with SimpleUDPClient("127.0.0.1", listening.port) as client:
        client.send_message("/cbs/style/sky", "light")
        live.until(lambda: "sky" in made.main.wish.routes)
        client.send_message("/cbs/strength/sky", 0.5)
        client.send_message("/cbs/keep_color/sky", 1)
        client.send_message("/cbs/segment_every", 3.0)  # a fader's
        client.send_message("/cbs/steady", 1)
        client.send_message("/cbs/confidence", 0.75)
        client.send_message("/cbs/style_size", 0.5)
        client.send_message("/cbs/style/car", "none")
        live.until(lambda: "car" not in made.main.wish.routes)
        assert made.main.wish.routes == {"sky": wish.Paint("light", 0.5, True)}
        assert (made.main.wish.segment_every, made.main.wish.steady) == (3, True)
        assert (made.main.wish.confidence, made.main.wish.style_size) == (0.75, 0.5)
        live.until(lambda: made.main.stream.plan.regions.confidence == 0.75)
        live.until(lambda: painted_at(made.main.stream.plan) == [0.5])
        before = made.main.wish
        wrong = [("/cbs/style/sky", "/etc/passwd"), ("/cbs/strength/sky", float("nan"))]
        wrong += [("/cbs/routes", "sky"), ("/cbs/strength", 0.1), ("/cbs/size/car", 200)]
        wrong += [("/other/size", 200), ("/cbs/size", [200, 300]), ("/cbs", 1)]
        wrong += [("/cbs/radius", float("nan")), ("/cbs/size", float("inf"))]
        for address, value in wrong:
            client.send_message(address, value)
        live.until(lambda: len(caplog.records) == len(wrong))
    assert made.main.wish == before
    with pytest.raises(ConfigError, match="cannot be listened to"):
        osc.Listening(made, listening.port)
    listening.close()


def test_a_preset_is_a_job_that_cbs_run_takes(made):
    changed = made.main.wish.changed(
        {
            "routes": {"sky": {"style": "light", "strength": 0.5}, "background": {"style": "none"}},
            "compositor": "feather",
            "radius": 9,
            "segment_size": 0.5,
            "style_size": 0.5,
            "confidence": 0.75,
            "matte": "soft",
        },
        made.catalog,
    )
    said = yaml.safe_load(wish.preset(changed, made.base, made.catalog))
    assert said["defaults"] == [
        "config",
        {"override segmenter": "colours"},
        {"override styler": "flat"},
        {"override compositor": "feather"},
        "_self_",
    ]
    assert said["routes"]["sky"] == {"style": "light", "strength": 0.5, "keep_color": False}
    assert said["routes"]["background"] == "none"
    assert said["compositor"] == {"radius": 9}
    assert (said["segment_size"], said["matte"]) == (0.5, "soft")
    assert (said["style_size"], said["confidence"]) == (0.5, 0.75)


def test_a_preset_tells_no_path_of_the_owners(tmp_path):
    style = tmp_path / "dark"
    style.write_bytes(b"")
    with live.studio(styles=["dark", str(style.with_name("light"))]) as made:
        (style.with_name("light")).write_bytes(b"")
        changed = made.main.wish.changed({"routes": {"sky": "light"}}, made.catalog)
        assert str(tmp_path) not in wish.preset(changed, made.base, made.catalog)


def test_closing_leaves_no_thread():
    before = set(threading.enumerate())
    with live.studio() as made:
        live.shown(made)
        made.change(made.main, {"routes": {"car": "light"}})
        made.painted("light", live.picture()[:48, :48]).result(20)
    live.until(lambda: {t for t in threading.enumerate() if t.name.startswith("cbs")} <= before)


def test_the_page_is_whole():
    folder = Path(pictures.__file__).with_name("page")
    text = (folder / "index.html").read_text()
    for name in ("main.js", "studio.css", "icon.svg"):
        assert f'"{name}"' in text
        assert (folder / name).is_file()
    for file in folder.iterdir():
        found = file.read_text()
        assert "https://" not in found, f"{file.name} takes something from another host"
        assert "innerHTML" not in found


def test_a_preset_says_what_a_run_would_choose_otherwise(made):
    said = yaml.safe_load(wish.preset(made.main.wish, made.base, made.catalog))
    assert said["segment_size"] == made.main.wish.segment_size == 1
    assert said["steady"] == "off"
    assert "style_size" not in said


@pytest.mark.parametrize(
    ("size", "finest"), [("auto", "auto"), (None, None), (0.5, None), ((256, 512), (256, 512))]
)
def test_strokes_are_as_large_as_the_owner_and_then_the_visitor_chose(made, size, finest):
    base = replace(made.base, style_size=size)
    mine = wish.first(base, made.catalog, 256, usual="wave")
    for chosen, due in ((mine, size), (replace(mine, style_size=0.35), 0.35),
                        (replace(mine, style_size=1), finest)):  # fmt: skip
        assert chosen.look(base, made.catalog).style_size == due
        said = yaml.safe_load(wish.preset(chosen, base, made.catalog))
        assert parse_size(said.get("style_size", "auto")) == due


def test_what_the_owner_chose_beyond_the_bounds_can_be_said_again(made):
    base = replace(made.base, confidence=0.99, segment_size=0.05)
    mine = wish.first(base, made.catalog, 256, usual="wave")
    assert mine.changed(mine.to_json(), made.catalog) == mine
    with pytest.raises(ConfigError, match=r"confidence '0\.98' is no number"):
        mine.changed({"confidence": 0.98}, made.catalog)


def test_strokes_that_the_owner_holds_stay_held(made):
    base = replace(made.base, steady="full")
    mine = wish.first(base, made.catalog, 256, usual="wave")
    assert mine.steady
    assert mine.look(base, made.catalog).steady == "full"
    assert replace(mine, steady=False).look(base, made.catalog).steady == "off"


def test_what_was_wrong_with_a_frame_ends_with_the_next(made):
    feed = made.main
    feed.fail("a torn picture")
    assert feed.error == "a torn picture"
    feed.well()
    assert feed.error is None
    feed.error = "no such style"  # of a plan, while the old one goes on
    feed.well()
    assert feed.error == "no such style"


def test_an_evening_of_recordings_is_listed_no_longer_than_a_page(made, tmp_path, monkeypatch):
    monkeypatch.setattr(shop, "LISTED", 3)
    evening = shop.Shop(made, tmp_path, shop.Limits(), live.inputs("clip.mp4"))
    live.shown(made)
    for _ in range(5):
        evening.began(recording := Recording(made.main, tmp_path))
        live.shown(made)
        evening.close()
    assert list(evening.recordings)[-1] == recording.path.name
    assert len(evening.recordings) == 3
    assert len([*tmp_path.glob("*.mp4")]) == 5


def test_of_two_ages_the_95th_of_a_hundred_is_the_older():
    with live.studio() as made:
        now = time.monotonic()
        made.main._times.extend([(now, 8.0), (now, 0.4)])
        told = made.main.figures()
    assert (told["age_p50"], told["age_p95"]) == (400, 8000)
