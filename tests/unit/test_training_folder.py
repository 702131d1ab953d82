"""The folder of a training's run: nothing of anybody's is taken for a run's."""

from pathlib import Path

import pytest

from cbs_core.contract.errors import ConfigError
from cbs_core.training.folder import check, held
from cbs_core.training.session import _run_folder


@pytest.mark.parametrize("name", ["last.pt", "best.pt", "run.json", "a.txt"])
@pytest.mark.parametrize("resume", [None, False, True])
def test_a_folder_of_somebody_elses_is_refused_whatever_is_in_it(
    tmp_path: Path, name: str, resume: object
) -> None:
    output = tmp_path / "style.safetensors"
    folder = tmp_path / "style.train"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(ConfigError, match="no run of cbs-train made it"):
        _run_folder(resume, output)
    with pytest.raises(ConfigError, match="no run of cbs-train made it"):
        check(folder, output, overwrite=True)
    assert (folder / name).read_text() == "mine"


def test_a_runs_own_folder_is_taken_again(tmp_path: Path) -> None:
    output = tmp_path / "style.safetensors"
    with held(tmp_path / "style.train", output, overwrite=False) as run:
        (run.path / "last.pt").touch()
    assert _run_folder(True, output) == run.path
    with pytest.raises(ConfigError, match="holds the checkpoint of an earlier run"):
        _run_folder(None, output)
