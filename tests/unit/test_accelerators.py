"""Accelerators: what is refused, what is chosen, what is kept on the disk and made again."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from cbs_core.accelerators import auto, check, checked, openvino, store, trying
from cbs_core.accelerators.checked import AT_ONCE, SHAPES, Checked, EagerWay, reference
from cbs_core.accelerators.eager import Eager
from cbs_core.accelerators.store import Store, fingerprint
from cbs_core.choose import registry
from cbs_core.contract.errors import AcceleratorError, ConfigError, PluginLoadError
from cbs_core.contract.types import WeightsFile
from cbs_core.machine import background
from cbs_core.machine.background import in_turn, stand_back
from cbs_core.run import settings
from cbs_core.run.accelerate import Accelerate
from cbs_core.testing import picture

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("CBS_CACHE", str(folder))
    monkeypatch.setattr(store, "_warned", set())
    monkeypatch.setattr(openvino, "_shaped", OrderedDict())
    return folder / "accelerators"


class Net(nn.Module):
    def __init__(self, strength=0.5, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.strength = strength

    def forward(self, image):
        return torch.sigmoid(self.conv(image)) * self.strength


class Way:
    """Adds ``error`` to the module's result and takes ``seconds``; counts what is built."""

    usual = 1.0

    def __init__(self, module, label="way", error=0.0, seconds=0.0):
        self.module, self.label, self.error, self.seconds = module, label, error, seconds
        self.built = []

    def build(self, *inputs):
        self.built.append(tuple(inputs[0].shape))

        def run(*inputs):
            time.sleep(self.seconds)
            return self.module(*inputs) + self.error

        return run


def net(**params):
    return reference(Net(**params), CPU)


def make(*ways, module=None, kind="styler", budget=20.0):
    module = ways[0].module if module is None else module
    return Checked(module, kind, ways, Store(module, CPU), budget=budget)


def test_what_differs_from_eager_is_refused_in_one_line():
    wrong = Way(net(), "hasty bf16", error=0.1)
    with pytest.raises(
        AcceleratorError,
        match=r"^the styler Net cannot be run by hasty bf16 at 96x64: PSNR 20\.0 dB \(allowed: 35\)"
        r"\. Say accelerator=auto or .*$",
    ):
        make(wrong)(picture(64, 96))


def test_what_cannot_be_built_is_refused_in_one_line():
    class Broken(Way):
        def build(self, *inputs):
            raise ValueError("no such\noperator")

    with pytest.raises(AcceleratorError, match=r"at 96x64: ValueError: no such operator\. Say"):
        make(Broken(net()))(picture(64, 96))


def test_a_frame_that_a_way_was_tried_on_is_not_run_again():
    class Counting(Way):
        def build(self, *inputs):
            run, self.runs = super().build(*inputs), 0

            def counted(*inputs):
                self.runs += 1
                self.in_turn = background._cores.locked()
                return run(*inputs)

            return counted

    way = Counting(net())
    accelerated, image = make(way, budget=None), picture(64, 96)
    with torch.inference_mode():
        assert torch.equal(accelerated(image), way.module(image))
    assert way.runs == 1
    assert way.in_turn, "beside a live frame"
    accelerated(image)
    assert not way.in_turn
    other = make(Counting(way.module), budget=None)
    other(image).requires_grad_()  # what is kept of a trial could not be


def test_a_frame_that_waited_for_a_new_net_is_done_before_that_is_compared():
    tried, waits = threading.Event(), threading.Event()
    order = []

    class Ordered(Net):
        def forward(self, image):
            order.append("compared")
            return super().forward(image)

    class Tried(Way):
        def build(self, *inputs):
            def run(*inputs):
                tried.set()
                assert waits.wait(60)
                while not background._next.locked():  # until the frame is the next
                    time.sleep(0.001)
                return Net.forward(self.module, *inputs)

            return run

    def frame():
        assert tried.wait(60)
        waits.set()
        with in_turn(60):
            time.sleep(0.05)
            order.append("frame")

    module = reference(Ordered(), CPU)
    with ThreadPoolExecutor() as pool:
        shown = pool.submit(frame)
        make(Tried(module), budget=None).prepare(picture(64, 96))
        shown.result()
    assert order == ["frame", "compared"]


def test_the_first_that_agrees_is_taken_where_none_is_timed(caplog):
    module = net()
    coarse, fine = Way(module, "coarse", error=0.1), Way(module, "fine", seconds=0.02)
    accelerated = make(coarse, fine, budget=None)
    with caplog.at_level(logging.INFO, "cbs"):
        accelerated(picture(64, 96))
    assert accelerated.chosen == "fine"
    assert len(fine.built) == 1
    assert "coarse is passed over: PSNR 20.0 dB (allowed: 35)" in caplog.text
    with pytest.raises(AcceleratorError, match="cannot be run by wrong at 96x64"):
        make(coarse, Way(module, "wrong", error=0.2), budget=None)(picture(64, 96))


def test_two_threads_may_build_and_run_at_once():
    way = Way(net(), seconds=0.001)
    accelerated = make(way)
    sizes = [(8 * n, 8) for n in range(1, 2 * SHAPES)]

    def run(order):
        for height, width in order:
            image = picture(height, width)
            assert torch.equal(accelerated(image), accelerated(image))
            assert (1, 3, height, width) in way.built
            assert len(accelerated.built) <= SHAPES

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(run, order) for order in (sizes, sizes[::-1], sizes)]:
            done.result()


def test_a_frame_does_not_wait_for_another_size_to_be_built():
    begun, over = threading.Event(), threading.Event()

    class Waiting(Way):
        def build(self, *inputs):
            if inputs[0].shape[2:] == (40, 40):
                begun.set()
                assert over.wait(60)
            return super().build(*inputs)

    accelerated = make(Waiting(net()))
    accelerated.prepare(picture(64, 96))
    with ThreadPoolExecutor() as pool:
        built = pool.submit(accelerated.prepare, picture(40, 40))
        assert begun.wait(60)
        try:
            assert pool.submit(accelerated, picture(64, 96)).result(60).shape == (1, 3, 64, 96)
            assert accelerated.built == {(1, 3, 64, 96)}
        finally:
            over.set()
        built.result()
    assert (1, 3, 40, 40) in accelerated.built


def test_an_interrupt_inside_a_compiler_stays_one():
    class Interrupted(Way):
        def build(self, *inputs):
            raise RuntimeError("the graph: KeyboardInterrupt: at node 7")

    with pytest.raises(KeyboardInterrupt):
        make(Interrupted(net()), SlowReference(net()))(picture(64, 96))


def test_a_refusal_is_remembered():
    for _ in range(2):
        way = Way(net(), error=0.1)
        with pytest.raises(AcceleratorError, match=r"PSNR 20\.0"):
            make(way)(picture(64, 96))
    assert way.built == []


def test_the_fastest_that_agrees_is_taken_and_remembered(caplog):
    caplog.set_level(logging.INFO, "cbs")

    def ways(module):
        return [
            Way(module, "wrong", error=0.1),
            Way(module, "slow", seconds=0.1),
            Way(module, "fast"),
            SlowReference(module),
        ]

    call = make(*ways(net()))
    call(picture(64, 96))
    assert call.chosen == "fast"
    assert "wrong is passed over: PSNR 20.0 dB (allowed: 35)" in caplog.messages
    assert any("runs by fast (" in line and "), slow (" in line for line in caplog.messages)

    second = ways(net())
    call = make(*second)
    call(picture(64, 96))
    assert call.chosen == "fast"
    assert [way.built for way in second[:3]] == [[], [], [(1, 3, 64, 96)]]


def test_a_net_of_the_same_design_is_not_timed_again():
    """A second style of one clip finds what the first one's race found out."""
    module, other = net(), net()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.25)
    slow, fast = Way(module, "slow", seconds=0.3), Way(module, "fast")
    make(slow, fast, EagerWay(module, torch.float32)).prepare(picture(64, 96))
    ways = [Way(other, "slow", seconds=0.3), Way(other, "fast")]
    found = make(*ways, EagerWay(other, torch.float32))
    found.prepare(picture(64, 96))
    assert not ways[0].built, "the slow one was tried again"
    wrong = Way(other, "fast", error=0.1)
    checked = make(Way(other, "slow"), wrong, EagerWay(other, torch.float32))
    checked.prepare(picture(64, 72))
    assert checked.chosen != "fast", "what it makes is still looked at"


def test_at_a_size_where_the_fastest_fails_the_next_is_taken():
    class Fickle(Way):
        def build(self, *inputs):
            self.error = 0.1 if inputs[0].shape[2] < 50 else 0.0
            return super().build(*inputs)

    module = net()
    call = make(Fickle(module, "fickle"), Way(module, "sure", seconds=0.1), SlowReference(module))
    call(picture(64, 96))
    assert call.chosen == "fickle"
    call(picture(40, 96))
    assert call.chosen == "sure"
    call(picture(64, 96))


class SlowReference(Way):
    """Stands for plain torch, always right, never fast."""

    usual = 0.0

    def __init__(self, module):
        super().__init__(module, "reference", seconds=0.3)


def test_without_a_budget_nothing_is_tried():
    module = net()
    way = Way(module)
    call = make(way, EagerWay(module, torch.float32), budget=0.0)
    call(picture(64, 96))
    assert call.chosen == "eager fp32"
    assert way.built == []


def test_without_a_budget_nothing_is_built_that_takes_long():
    """An earlier run found out for a net of the same design that it is the fastest."""
    module = net()
    ways = Way(module), SlowReference(module)
    make(*ways)(picture(64, 96))
    for usual, chosen in ((0.1, "way"), (AT_ONCE + 1, "reference")):
        ways[0].usual = usual
        call = make(*ways, budget=0.0)
        call(picture(64, 96))
        assert call.chosen == chosen


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (256, 512)])
def test_without_a_budget_the_fastest_of_the_nearest_size_is_taken(size):
    """A live picture is made smaller, and another style chosen then."""
    module = net()
    way = Way(module)
    make(way, SlowReference(module))(picture(64, 96))
    call = make(way, SlowReference(module), budget=0.0)
    call(picture(*size))
    assert call.chosen == "way"
    assert call.design == make(way, module=net()).design


def test_with_a_budget_another_size_is_tried_by_itself():
    module = net()
    make(Way(module), SlowReference(module))(picture(64, 96))
    way = Way(module)
    make(way, SlowReference(module))(picture(256, 512))
    assert way.built == [(1, 3, 256, 512)]


def test_what_takes_longer_than_the_budget_is_left_out():
    module = net()
    way = Way(module)
    make(way, EagerWay(module, torch.float32), budget=0.5)(picture(64, 96))
    assert way.built == []


class Clock:
    """Goes on only as planted ways take time, whatever the machine is doing."""

    def __init__(self, monkeypatch):
        self.time = 0.0
        monkeypatch.setattr(trying, "now", lambda: self.time)

    def ways(self, plain, *planted):
        """Nets by their labels, seconds to build and a frame; the module takes ``plain``."""
        module = net()
        clock = self

        class Timed(Way):
            def __init__(self, label, usual, builds, takes):
                super().__init__(module, label)
                self.usual, self.builds, self.takes, self.runs = usual, builds, takes, 0

            def build(self, *inputs):
                clock.time += self.builds
                run = super().build(*inputs)

                def timed(*inputs):
                    self.runs += 1
                    clock.time += self.takes
                    return run(*inputs)

                return timed

        def slow(module, inputs):
            clock.time += plain

        module.register_forward_pre_hook(slow)
        for one in (ways := [Timed(*way) for way in planted]):
            one.module = lambda image: torch.sigmoid(module.conv(image)) * module.strength
        return [*ways, EagerWay(module, torch.float32)]

    def tried(self, ways, frames):
        """Returns what was chosen and how long finding out took."""
        module, begun = ways[-1].module, self.time
        call = Checked(module, "styler", ways, Store(net(), CPU), budget=20.0, frames=frames)
        call.prepare(picture(64, 96))
        return call.chosen, self.time - begun


def test_what_few_frames_do_not_make_up_for_is_not_built(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "cbs")
    clock = Clock(monkeypatch)
    ways = clock.ways(0.3, ("fast", 4.0, 4.0, 0.1))
    assert clock.tried(ways, 20) == ("eager fp32", pytest.approx(0.3))
    assert ways[0].built == []
    assert "fast is not tried: 20 frames are too few to make up for building it" in caplog.messages
    assert clock.tried(ways, 20)[1] == 0, "it is known"
    chosen, took = clock.tried(ways, 50)
    assert chosen == "fast", "a longer run goes on"
    assert took < 4.0 + 0.3 + 0.1 + 2 * 1.5, "building, the comparison, a tenth of 50 frames"
    assert clock.tried(ways, 20)[0] == "fast", "what was found is found again"


def test_after_a_run_that_built_nothing_the_most_promising_way_is_enough_to_go_on(monkeypatch):
    """Else a short run would keep all those after it at plain torch, but the very long."""
    clock = Clock(monkeypatch)
    ways = clock.ways(0.3, ("fast", 4.0, 4.0, 0.1), ("other", 15.0, 15.0, 0.2))
    assert clock.tried(ways, 20)[0] == "eager fp32"
    assert clock.tried(ways, 60)[0] == "fast"
    assert ways[1].built == []


@pytest.mark.parametrize("frames", [30, 100, 200, 500])
def test_further_trying_takes_a_tenth_of_the_run_at_most(monkeypatch, frames):
    clock = Clock(monkeypatch)
    slower = [(f"slower{n}", 2.0, 2.0, 0.25) for n in range(9)]
    ways = clock.ways(0.3, ("fast", 1.0, 1.0, 0.1), *slower)
    chosen, took = clock.tried(ways, frames)
    assert chosen == "fast"
    more = took - (0.3 + 1.0 + 0.1)  # plain torch's picture, building and the comparison
    assert more <= 0.1 * frames * 0.3 + 0.3, "and the call that was under way"
    count = sum(bool(way.built) for way in ways[:-1])
    assert count == 1 + min(9, int(0.1 * frames * 0.3 / 2.25))
    again, took = clock.tried(ways, frames)
    assert (again, took < 1.5) == (chosen, True), "it is compared once"


def test_without_a_number_of_frames_the_budget_alone_counts(monkeypatch):
    clock = Clock(monkeypatch)
    slower = [(f"slower{n}", 2.0, 2.0, 0.25) for n in range(3)]
    ways = clock.ways(0.3, ("fast", 1.0, 1.0, 0.1), *slower)
    assert clock.tried(ways, None)[0] == "fast"
    assert all(way.built for way in ways[:-1])


def test_of_an_engine_float32_is_not_timed_where_half_precision_agrees(monkeypatch):
    clock = Clock(monkeypatch)
    ways = clock.ways(0.3, ("one bf16", 1.0, 1.0, 0.1), ("one fp32", 1.0, 1.0, 0.2))
    ways[0].error = 0.0
    assert clock.tried(ways, None)[0] == "one bf16"
    assert ways[1].built == []
    ways = clock.ways(0.3, ("one bf16", 1.0, 1.0, 0.1), ("one fp32", 1.0, 1.0, 0.2))
    ways[0].error = 0.1
    store = Store(net(strength=0.4), CPU)
    call = Checked(ways[-1].module, "styler", ways, store, budget=20.0)
    call.prepare(picture(64, 96))
    assert call.chosen == "one fp32"
    ways[1].error = 0.1  # at another size it fails too, and plain torch is left
    call.prepare(picture(40, 64))
    assert call.chosen == "eager fp32"


def test_a_size_is_built_once_and_only_so_many_are_kept():
    way = Way(net())
    call = make(way)
    for _ in range(3):
        for size in ((64, 96), (40, 40)):
            call(picture(*size))
    assert way.built == [(1, 3, 64, 96), (1, 3, 40, 40)]
    assert call.built == {(1, 3, 64, 96), (1, 3, 40, 40)}
    for height in range(8, 8 + SHAPES):
        call(picture(height, 8))
    assert len(call.built) == SHAPES
    assert (1, 3, 64, 96) not in call.built


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"strength": 0.4}], ids=["weights", "another attribute"]
)
def test_another_net_has_another_fingerprint(other):
    assert fingerprint(Net()) == fingerprint(Net())
    assert fingerprint(Net(**other)) != fingerprint(Net())


def test_a_buffer_that_is_not_saved_counts_too():
    a, b = Net(), Net()
    a.register_buffer("mean", torch.zeros(3), persistent=False)
    b.register_buffer("mean", torch.ones(3), persistent=False)
    assert fingerprint(a) != fingerprint(b)


def test_a_fingerprint_does_not_depend_on_the_order_of_a_set():
    """Else what one process keeps no other finds: they order names each in its own way."""
    ways = [0, 8], [8, 0]  # in a small set both have the same place, and the first comes first
    assert [*map(list, map(set, ways))] == [*ways]
    nets = []
    for way in ways:
        nets.append(Net())
        nets[-1].known = {frozenset(way), "a"}
        nets[-1]._non_persistent_buffers_set = set(way)
    for told in (fingerprint, store.form):
        assert told(nets[0]) == told(nets[1])
    nets[1].known = {frozenset([0, 9]), "a"}
    assert fingerprint(nets[0]) != fingerprint(nets[1])


def test_a_net_that_cannot_be_written_down_is_run_but_not_kept(cache):
    module = net()
    module.activation = lambda x: x
    assert make(Way(module))(picture(8, 8)).shape == (1, 3, 8, 8)
    assert not cache.exists()


def test_a_damaged_entry_is_made_again(cache, caplog):
    caplog.set_level(logging.INFO, "cbs")
    kept = Store(Net(), CPU)
    kept.write(b"content", "a")
    assert kept.read("a") == b"content"
    assert kept.read("b") is None
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert kept.read("a") is None
    assert f"'{file}' is damaged and is made again" in caplog.messages


@pytest.mark.parametrize("content", [b"{", b"[" * 10**5, b"\xff", b'{"words": 3}', b"[[1]]", b"1"])
def test_what_is_kept_and_is_no_answer_is_asked_anew(content, monkeypatch):
    monkeypatch.setattr(Store, "read", lambda self, *parts: content)
    module = net()
    checked = make(Way(module, "one"), Way(module, "two"), module=module)
    assert torch.equal(checked(torch.ones(1, 3, 8, 8)), module(torch.ones(1, 3, 8, 8)))


def test_a_pipe_in_the_cache_does_not_hang(cache):
    kept = Store(Net(), CPU)
    kept.write(b"content", "a")
    (file,) = cache.iterdir()
    file.unlink()
    os.mkfifo(file)
    assert kept.read("a") is None
    kept.write(b"content", "a")
    assert kept.read("a") == b"content"


def test_what_is_larger_than_the_memory_is_not_read(cache):
    kept = Store(Net(), CPU)
    kept.write(b"content", "a")
    (file,) = cache.iterdir()
    os.truncate(file, 2**40)
    assert kept.read("a") is None
    kept.write(b"content", "a")
    assert kept.read("a") == b"content"


def test_a_folder_that_cannot_be_written_is_told_once_and_used(cache, caplog):
    written = Store(Net(), CPU)
    written.write(b"content", "a")
    file = next(cache.iterdir())
    content = file.read_bytes()
    # A folder under the file's own name fails for every user, root too.
    for name in ("b", "c"):
        written._path((name,)).mkdir()
        written.write(b"more", name)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "cannot be written" in warnings[0]
    assert "CBS_CACHE" in warnings[0]
    assert file.read_bytes() == content
    assert written.read("a") == b"content"


# The comparison


def test_equal_results_agree():
    image = picture(16, 16)
    assert check.compare("styler", image, image, (16, 16)).passed
    logits = torch.randn(1, 5, 4, 4)
    assert check.compare("segmenter", logits, logits, (32, 32)).passed


@pytest.mark.parametrize(("noise", "passed"), [(0.01, True), (0.03, False)])
def test_a_styled_picture_is_judged_by_its_psnr(noise, passed):
    image = picture(64, 64)
    verdict = check.compare("styler", image + noise, image, (64, 64))
    assert verdict.passed == passed
    psnr = float(verdict.words.split()[1])
    assert psnr == pytest.approx(-20 * torch.log10(torch.tensor(noise)).item(), abs=0.06)


def labels(rows):
    """Logits of three classes, at the frame's own size: so many rows of each."""
    maps = torch.cat([torch.full((n,), k) for k, n in enumerate(rows)])[:, None].expand(-1, 100)
    return nn.functional.one_hot(maps, 3).permute(2, 0, 1)[None].float()


def test_a_label_map_is_judged_by_each_class_and_its_share():
    want = labels((50, 49, 1))
    verdict = check.compare("segmenter", labels((50, 50, 0)), want, (100, 100))
    # 0.5 of IoU 1, 0.49 of IoU 49/50, 0.01 of IoU 0.
    assert verdict.words == f"IoU {0.5 + 0.49 * 49 / 50:.4f} (allowed: 0.995)"
    assert not verdict.passed


def test_nan_is_refused():
    image = picture(8, 8)
    broken = image.clone()
    broken[0, 0, 0, 0] = torch.nan
    assert not check.compare("styler", broken, image, (8, 8)).passed


def test_another_shape_is_refused():
    verdict = check.compare("styler", picture(8, 9), picture(8, 8), (8, 8))
    assert verdict.words == "it returned 1x3x8x9 where 1x3x8x8 is due"


def test_what_comes_beside_the_picture_is_judged_by_its_own_size():
    image, numbers = picture(8, 8), torch.full((1, 4), 1000.0)
    assert check.compare("styler", (image, numbers + 1), (image, numbers), (8, 8)).passed
    assert not check.compare("styler", (image, numbers + 30), (image, numbers), (8, 8)).passed


# Real ones


@pytest.mark.parametrize(
    ("name", "package", "words"),
    [
        ("onnxruntime", "onnxruntime", r"pip install 'class-based-styling\[onnx\]'"),
        ("openvino", "openvino", "pip install openvino"),
    ],
)
def test_an_absent_package_names_what_to_install(monkeypatch, name, package, words):
    module = registry.accelerators.load(name).__module__
    monkeypatch.setattr(f"{module}.find_spec", lambda name: None if name == package else True)
    with pytest.raises(PluginLoadError, match=f"^accelerator={name} needs .*: {words}$"):
        registry.accelerators.create(name)


@pytest.mark.parametrize("name", ["cudagraph", "openvino"])
def test_another_device_is_refused(name):
    device = torch.device("cuda" if name == "openvino" else "cpu")
    accelerator = registry.accelerators.create(name)
    with pytest.raises(AcceleratorError, match=f"accelerator={name} "):
        accelerator(Net(), device=device, dtype=torch.float32, kind="styler")


@pytest.fixture
def conversions(monkeypatch):
    """What was converted: whether for one size, and whether apart from its weights."""
    counted = []
    convert = openvino.Net._convert

    def counting(self, inputs, *, fixed, apart):
        counted.append((fixed, apart))
        return convert(self, inputs, fixed=fixed, apart=apart)

    monkeypatch.setattr(openvino.Net, "_convert", counting)
    return counted


def test_openvino_looks_at_a_shape_once_for_all_weights(monkeypatch):
    """A style that comes beside a live picture takes no more of its processor than it must."""
    looked = []
    fits = openvino.Net.fits

    def counting(self, model, inputs):
        looked.append(inputs[0].shape[2:])
        return fits(self, model, inputs)

    monkeypatch.setattr(openvino.Net, "fits", counting)
    sizes = ((64, 96), (33, 50))
    run_by_openvino(*(Net(seed=seed) for seed in range(3)), sizes=sizes)
    assert looked == [*sizes]
    run_by_openvino(Net(strength=0.4), sizes=sizes)
    assert looked == [*sizes, *sizes]


def run_by_openvino(*nets, sizes=((64, 96),)):
    for one in nets:
        accelerator = registry.accelerators.create("openvino")
        call = accelerator(one, device=CPU, dtype=torch.float32, kind="styler")
        for size in sizes:
            torch.testing.assert_close(call(picture(*size)), one(picture(*size)))


def test_openvino_converts_a_net_once_for_all_sizes_and_runs(conversions):
    with torch.inference_mode():
        for _ in range(2):
            run_by_openvino(Net(), sizes=((64, 96), (33, 50)))
    assert conversions == [(False, True)]


def test_openvino_converts_a_net_once_for_all_weights(conversions):
    """Where they are from does not count; what else a net is, does."""
    styles = [Net(seed=seed) for seed in range(3)]
    for style in styles:
        style.weights_files = (WeightsFile(Path(f"{id(style)}.pth"), f"{id(style)}"),)
    run_by_openvino(*styles)
    assert conversions == [(False, True)]
    run_by_openvino(Net(strength=0.4))
    assert conversions == 2 * [(False, True)]


def test_openvino_converts_with_its_weights_what_it_cannot_read_apart(conversions):
    class Chosen(Net):
        def forward(self, image):
            if torch.jit.is_tracing() and type(self.conv.weight) is not nn.Parameter:
                raise TypeError("only my own will do")
            return super().forward(image)

    with torch.inference_mode():
        for seed in range(2):
            run_by_openvino(Chosen(seed=seed))
    assert conversions == 2 * [(False, True), (False, False)]


def test_a_net_that_comes_beside_a_stream_runs_as_fast_as_one_like_it(monkeypatch):
    """Built where a thread stands back, by what an earlier run has made of another's weights."""
    monkeypatch.setattr(
        checked, "_timed", lambda calls, *rest: {way: "eager" in way.label for way in calls}
    )
    image, chosen = picture(64, 96), []

    def build(seed, budget):
        call = auto.AutoAccelerator(budget)(
            Net(seed=seed), device=CPU, dtype=torch.float32, kind="styler"
        )
        call.prepare(image)
        chosen.append(call.chosen)

    def beside():
        stand_back(builds=True)
        build(1, budget=0)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        build(0, budget=20)
        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()
    finally:
        torch.set_num_threads(before)
    assert chosen[1] == chosen[0]
    assert "openvino" in chosen[0]


def test_an_interrupt_after_openvino_is_an_interrupt():
    code = """
import gc, signal, torch
from cbs_core.choose import registry
net = torch.nn.Conv2d(3, 3, 3, padding=1)
device = torch.device("cpu")
built = []
for _ in range(2):
    fast = registry.accelerators.create("openvino")
    built.append(fast(net, device=device, dtype=torch.float32, kind="styler"))
    built[-1](torch.rand(1, 3, 32, 32))
del fast
while built:
    built.pop(0)
    gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("whole")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, b"whole\n"), done


def test_openvino_is_imported_without_its_telemetry():
    code = (
        "import sys; from cbs_core.accelerators.openvino import runtime; runtime().Core();"
        "sys.exit('openvino_telemetry' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_openvino_converts_anew_what_takes_another_way_at_another_size():
    class Padded(nn.Module):
        def forward(self, image):
            height, width = image.shape[2:]
            whole = nn.functional.pad(image, (0, -width % 32, 0, -height % 32))
            small = nn.functional.avg_pool2d(whole, 4)
            if whole.shape == image.shape:
                return small
            return nn.functional.interpolate(small, whole.shape[2:])[..., :height, :width]

    module = reference(Padded(), CPU)
    accelerator = registry.accelerators.create("openvino")
    fast = accelerator(module, device=CPU, dtype=torch.float32, kind="styler")
    for size in ((64, 96), (65, 90), (96, 64), (70, 71)):
        image = picture(*size)
        torch.testing.assert_close(fast(image), module(image), atol=1e-4, rtol=0)


def test_openvino_rebuilds_from_a_damaged_file(cache):
    def run():
        accelerator = registry.accelerators.create("openvino")
        call = accelerator(Net(), device=CPU, dtype=torch.float32, kind="styler")
        return call(picture(64, 96))

    with torch.inference_mode():
        want = run()
        for file in cache.iterdir():
            file.write_bytes(b"0" * 100)
        torch.testing.assert_close(run(), want)


class Deep(nn.Module):
    """Convolutions with instance normalisation, as style nets have them."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 16, 3, padding=1),
                nn.InstanceNorm2d(16, affine=True),
                nn.ReLU(),
                nn.Conv2d(16, 3, 3, padding=1),
            )

    def forward(self, image):
        return torch.sigmoid(self.layers(image))


def in_int8():
    accelerator = registry.accelerators.create("openvino", int8=True)
    call = accelerator(Deep(), device=CPU, dtype=torch.float32, kind="styler")
    with torch.inference_mode():
        return call, call(picture(64, 96))


def test_int8_is_made_once_checked_and_found_again_without_what_makes_it(monkeypatch, cache):
    pytest.importorskip("nncf")
    call, made = in_int8()
    assert call.chosen == "openvino int8"
    want = Deep()(picture(64, 96)).detach()
    assert check.compare("styler", made, want, (64, 96)).passed
    assert not torch.allclose(made, want, atol=1e-5), "float32 was run"
    monkeypatch.setattr(openvino.quantise, "installed", lambda: False)
    monkeypatch.setattr(store, "_machine", lambda device: "another machine")
    call, again = in_int8()
    assert call.chosen == "openvino int8", "the cache may be copied to another machine"
    torch.testing.assert_close(again, made)
    other = torch.rand(1, 3, 40, 72)
    assert check.compare("styler", call(other), Deep()(other).detach(), (40, 72)).passed
    assert call.chosen == "openvino fp32", "of another size it was not made"
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:-9])
    assert in_int8()[0].chosen == "openvino fp32", "broken, and it cannot be made again here"
    monkeypatch.undo()
    monkeypatch.setenv("CBS_CACHE", str(cache.parent))
    assert in_int8()[0].chosen == "openvino int8"
    monkeypatch.setattr(openvino, "versions", lambda *names: ("0.1",))
    monkeypatch.setattr(openvino.quantise, "installed", lambda: False)
    assert in_int8()[0].chosen == "openvino fp32", "what another version made is not taken"


def test_what_int8_needs_is_told_in_one_line(monkeypatch, caplog):
    monkeypatch.setattr(openvino.quantise, "installed", lambda: False)
    with caplog.at_level(logging.INFO, "cbs"):
        assert in_int8()[0].chosen == "openvino fp32"
    line = "openvino int8 is passed over: int8 needs nncf: pip install 'class-based-styling[int8]'"
    assert line in caplog.messages


def test_a_net_that_int8_makes_another_is_run_in_float(monkeypatch, caplog):
    """What is quantised comes through the same door as everything."""

    def other(self, inputs):
        wrong = openvino.Net(reference(Wrong(), CPU), Store(Wrong(), CPU), "styler")
        return wrong.model(inputs)

    class Wrong(Deep):
        def forward(self, image):
            return super().forward(image) * 0.9

    monkeypatch.setattr(openvino.Net, "quantised", other)
    with caplog.at_level(logging.INFO, "cbs"):
        assert in_int8()[0].chosen == "openvino fp32"
    assert any(line.startswith("openvino int8 is passed over: PSNR") for line in caplog.messages)


def test_a_quantiser_that_fails_is_told_by_its_last_line(monkeypatch, caplog):
    monkeypatch.setattr(openvino.quantise, "installed", lambda: True)
    monkeypatch.setattr(openvino.quantise.sys, "executable", "/bin/false")
    with caplog.at_level(logging.INFO, "cbs"):
        assert in_int8()[0].chosen == "openvino fp32"
    assert "openvino int8 is passed over: nncf: it ended without a word" in caplog.messages


def test_int8_is_taken_where_it_is_asked_for_alone():
    """Its ranges are the first frame's; a film may begin black."""
    auto_, own = {"name": "auto", "int8": None}, {"name": "auto", "int8": True}
    for precision, given, told in (
        ("auto", auto_, None),
        ("bf16", auto_, None),
        ("auto", own, True),
    ):
        found = settings.accelerator({"precision": precision, "accelerator": given})
        assert found.params["int8"] is told
    choice = settings.accelerator({"precision": "int8", "accelerator": auto_})
    assert choice.params["int8"] is True


@pytest.mark.parametrize(("name", "has"), [("auto", True), ("openvino", True), ("eager", False)])
def test_precision_int8_is_refused_where_an_accelerator_has_none(name, has):
    choice = settings.accelerator({"precision": "int8", "accelerator": {"name": name}})
    assert choice.params == {"int8": True}
    accelerate = Accelerate(choice, CPU, torch.float32)
    if has:
        accelerate(Deep(), "a net", "styler")
        return
    with pytest.raises(ConfigError, match=r"^accelerator=eager has no int8: say accelerator=auto"):
        accelerate(Deep(), "a net", "styler")


@pytest.mark.parametrize("there", [False, True])
def test_auto_races_int8_where_it_may_and_can(monkeypatch, there):
    monkeypatch.setattr(auto.quantise, "installed", lambda: there)
    module = net()
    for allowed in (False, True):
        kept = Store(module, CPU)
        ways = auto.candidates(module, CPU, torch.float32, kept, "styler", int8=allowed)
        labels = [way.label for way in ways]
        assert ("openvino int8" in labels) is (allowed and there)
        assert labels[0] == "openvino fp32", "the most promising is built first"


class Untraceable(Net):
    def forward(self, image):
        if not image.is_contiguous(memory_format=torch.channels_last):
            raise RuntimeError("only I may lay out pictures")
        return super().forward(image)


def test_a_net_that_openvino_cannot_trace_is_refused_by_name_and_passed_over_by_auto(caplog):
    caplog.set_level(logging.INFO, "cbs")
    options = {"device": CPU, "dtype": torch.float32, "kind": "styler"}
    image = picture(64, 96)
    with torch.inference_mode():
        with pytest.raises(AcceleratorError, match=r"by openvino fp32 at 96x64: .*lay out pict"):
            registry.accelerators.create("openvino")(Untraceable(), **options)(image)
        call = registry.accelerators.create("auto")(Untraceable(), **options)
        torch.testing.assert_close(call(image), Untraceable()(image))
    assert call.chosen == "eager fp32"
    assert any("openvino fp32 is passed over" in line for line in caplog.messages)


def test_auto_never_goes_below_the_precision_asked_for():
    module = net()
    for dtype, halves in ((torch.float32, False), (torch.bfloat16, True)):
        ways = auto.candidates(module, CPU, dtype, Store(module, CPU), "styler")
        assert any("bf16" in way.label for way in ways) == halves
        assert ways[-1].label == "eager fp32"


@pytest.mark.filterwarnings("error")
def test_eager_leaves_what_is_no_real_number_to_be_refused():
    run = Eager(lambda image: (image, image + 1j), torch.float32)
    real, other = run(torch.zeros(1, 3, 4, 4))
    assert (real.dtype, other.dtype) == (torch.float32, torch.complex64)


def test_eager_half_precision_leaves_the_reference_alone():
    module = net()
    call = EagerWay(module, torch.bfloat16).build(picture(8, 8))
    assert isinstance(call, Eager)
    assert module.conv.weight.dtype == torch.float32
    assert call(picture(8, 8)).dtype == torch.float32


@pytest.mark.cuda
def test_a_cuda_graph_survives_another_stream():
    device = torch.device("cuda")
    accelerator = registry.accelerators.create("cudagraph")
    call = accelerator(Net(), device=device, dtype=torch.float32, kind="styler")
    image = picture(64, 96).to(device)
    with torch.inference_mode():
        want = call(image).clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            have = call(image)
        stream.synchronize()
    torch.testing.assert_close(have, want)


@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.parametrize("name", ["cudagraph", "compile"])
def test_a_recorded_module_keeps_its_weights(name):
    device = torch.device("cuda")
    accelerator = registry.accelerators.create(name)
    call = accelerator(Net(), device=device, dtype=torch.float16, kind="styler")
    image = picture(64, 96).to(device)
    with torch.inference_mode():
        want = call(image)
        # Whatever was freed is used anew, by numbers that show.
        filling = [torch.full((n,), torch.nan, device=device) for n in [16, 128, 512, 4096] * 500]
        torch.testing.assert_close(call(image), want)
    assert len(filling) == 2000
    assert call.chosen == f"{name} fp16"
