"""What README says in Python is run."""

import re

import numpy as np
import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_python_of_the_readme_runs(monkeypatch):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    small = block.replace("data.astronaut()", "data.astronaut()[::4, ::4]")
    assert small != block
    # The trial of what is fastest is not what is tested.
    small = small.replace('device="auto"', 'device="auto", accelerator="eager"')
    names: dict[str, object] = {}
    exec(small, names)  # our own text
    before, out = np.asarray(names["photo"]), np.asarray(names["out"])
    changed = (before != out).any(2)
    assert 0.2 < changed.mean() < 0.8, "the person, and nothing else"
    found = names["found"]
    assert found.mattes.keys() == {"person", "background"}
    assert (np.asarray(found.picture) != before).any(2).mean() > 0.9
