"""The device asked for computes, or one line says why not; never a silent fallback."""

import logging

import pytest
import torch

from cbs_core.contract.errors import ConfigError
from cbs_core.machine import device
from cbs_core.machine.asked import DeviceError
from cbs_core.machine.device import choose, dtype, precision


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device.shutil, "which", lambda name: None)


@pytest.fixture
def one_gpu(monkeypatch):
    """A GPU as far as torch's questions go; its kernels run on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(device, "_checked", lambda chosen: device.Device(chosen, "a GPU"))


def test_the_cpu_tells_its_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert choose("cpu") == device.Device(torch.device("cpu"), "7 threads")


def test_auto_is_the_cpu_where_there_is_no_gpu(no_gpu, caplog):
    assert choose("auto").device.type == "cpu"
    assert not caplog.records


def test_auto_warns_where_a_gpu_is_there_that_torch_cannot_use(no_gpu, monkeypatch, caplog):
    monkeypatch.setattr(device.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    with caplog.at_level(logging.WARNING, "cbs"):
        assert choose("auto").device.type == "cpu"
    assert "cbs-doctor" in caplog.text


@pytest.mark.parametrize(
    ("spec", "chosen"), [("auto", "cuda"), ("cuda", "cuda"), ("cuda:0", "cuda:0"), ("cpu", "cpu")]
)
def test_a_gpu_is_chosen(one_gpu, spec, chosen):
    assert choose(spec).device == torch.device(chosen)


def test_a_gpu_that_is_not_there_is_no_reason_to_use_the_cpu(no_gpu):
    with pytest.raises(DeviceError, match=r"device=cuda: torch .* cannot use a GPU .* device=cpu"):
        choose("cuda")


def test_a_gpu_number_that_is_not_there(one_gpu):
    with pytest.raises(DeviceError, match="device=cuda:3"):
        choose("cuda:3")


def test_a_kernel_that_fails_is_told(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no kernel image is available\nCompile with ...")

    monkeypatch.setattr(torch.nn.functional, "conv2d", fail)
    with pytest.raises(
        DeviceError, match=r"cpu is there but cannot compute \(no kernel .* avail.*\)"
    ):
        choose("cpu")


def test_a_kernel_that_computes_nonsense_is_told(monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *a, **k: torch.zeros(3))
    with pytest.raises(DeviceError, match="cpu computes wrong results"):
        choose("cpu")


@pytest.mark.parametrize("spec", ["cpu:", "cuda:", "cpu:5", "cuda:x", "cuda:-1", "gpu", "", "None"])
def test_another_word_is_refused_with_the_list(spec):
    with pytest.raises(
        ConfigError, match=rf"^no device '{spec}'.*\(there are: auto, cpu, cuda, cu"
    ):
        choose(spec)


@pytest.mark.parametrize(
    ("spec", "want"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_precisions(spec, want):
    assert dtype(spec, torch.device("cpu")) == want
    assert precision(want) == spec


@pytest.mark.parametrize(
    ("feature", "want"), [("amx_bf16", torch.bfloat16), ("avx2", torch.float32)]
)
def test_auto_is_half_precision_where_the_device_has_it(monkeypatch, feature, want):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {feature: True})
    assert dtype("auto", torch.device("cpu")) == want
    assert dtype("auto", torch.device("cuda")) == torch.float16


def test_what_int8_is_not_made_of_is_in_the_best_float_and_cuda_has_none(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert dtype("int8", torch.device("cpu")) == torch.float32
    with pytest.raises(ConfigError, match=r"^precision=int8 is for CPUs: say"):
        dtype("int8", torch.device("cuda"))


def test_another_precision_is_refused():
    with pytest.raises(
        ConfigError, match=r"no precision 'fp61'; did you mean 'fp16'\? \(there are: "
    ):
        dtype("fp61", torch.device("cpu"))
