"""What `cbs-train` makes of words such as ``auto``."""

import shutil

import pytest
import torch

from cbs_core.contract.errors import ConfigError
from cbs_core.training.session import COMPILED_FROM, compiled, precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_precision(monkeypatch):
    assert precision("fp16", CPU) == torch.float16
    for feature, dtype in (
        *(("avx512_bf16", torch.bfloat16), ("amx_bf16", torch.bfloat16)),
        ("avx2", torch.float32),
    ):
        native = dtype == torch.bfloat16
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda f=feature: {f: True})
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda n=native, **_: n)
        assert precision("auto", CPU) == precision("auto", CUDA) == dtype


def test_compiled_where_it_pays(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert compiled("auto", COMPILED_FROM, torch.bfloat16, CPU)
    assert not compiled("auto", COMPILED_FROM - 1, torch.bfloat16, CPU)
    assert not compiled("auto", COMPILED_FROM, torch.float32, CPU)
    assert not compiled("auto", COMPILED_FROM, torch.bfloat16, CUDA)
    assert compiled(True, 1, torch.float32, CUDA)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not compiled("auto", COMPILED_FROM, torch.bfloat16, CPU)
    with pytest.raises(ConfigError, match="neither true, false nor auto"):
        compiled("maybe", 1, torch.float32, CPU)
