"""Fresh environments that hold the project as its users install it.

Heavy dependencies are borrowed: each environment sees a folder of links to what this one has
installed, save the project itself and whatever plugs into it.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PASTEL = ROOT / "examples" / "cbs-pastel"
MEADOW = ROOT / "examples" / "cbs-meadow"
OURS = re.compile(r"(__editable__[._]+|_+editable_impl_)?(class_based_styling|cbs_)|__pycache__")
OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")


@dataclass
class Environment:
    """A virtual environment of its own."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    """Added to the few variables that commands see."""

    @property
    def site_packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.root)}))

    def install(self, *what: str | Path) -> None:
        """Installs by pip, from files alone; ``-e FOLDER`` is two arguments."""
        self.run("python", "-m", "pip", "install", *OFFLINE, *map(str, what), check=True)

    def run(
        self, *command: str, cwd: Path | None = None, check: bool = False, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command of this environment and returns what it printed.

        Args:
            command: its name and arguments.
            cwd: where; the environment's own folder where not given.
            check: fail the test unless it exits with 0.
            variables: further environment variables.
        """
        done = subprocess.run(
            [self.root / "bin" / command[0], *command[1:]],
            cwd=cwd or self.root,
            env=self.environ(variables),
            capture_output=True,
            text=True,
            timeout=120,
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)} exited with {done.returncode}:\n{done.stderr}")
        return done

    def shell(self, line: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Runs a line as a person would type it; its stdout holds stderr as well."""
        return subprocess.run(
            ["bash", "-c", line],
            cwd=cwd,
            env=self.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )

    def environ(self, variables: Mapping[str, str] = {}) -> dict[str, str]:
        """Returns the variables that commands see: nothing of the developer's own set-up."""
        return {
            "PATH": f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.root / "home"),
            "COLUMNS": "200",
            "OMP_NUM_THREADS": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            **self.variables,
            **variables,
        }


def new_environment(root: Path) -> Environment:
    """Makes an environment with this one's packages, without the project and its plugins."""
    venv.EnvBuilder(symlinks=True).create(root)
    environment = Environment(root)
    borrowed = root / "borrowed"
    borrowed.mkdir()
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(folder).iterdir():
            if not OURS.match(entry.name):
                (borrowed / entry.name).symlink_to(entry)
    (environment.site_packages / "borrowed.pth").write_text(f"{borrowed}\n")
    return environment


def build_wheels(folder: Path) -> None:
    """Puts wheels of the project and the examples, and the project's sdist, into a folder."""
    # Through the sdist: a file left out of it would be missing for whoever builds from it.
    _python("-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    _python("-m", "pip", "wheel", *OFFLINE, "--wheel-dir", folder, *copies_of_examples(folder))


def _python(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        pytest.fail(f"{arguments} failed:\n{done.stdout}\n{done.stderr}")


def copies_of_examples(folder: Path) -> list[Path]:
    """Copies the example packages into a folder and returns where they are."""
    # setuptools builds inside the source tree, and takes along what an older build left there.
    ignore = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".*")
    return [shutil.copytree(e, folder / e.name, ignore=ignore) for e in (PASTEL, MEADOW)]


def wheel(folder: Path, name: str) -> Path:
    """Returns the one wheel of a distribution."""
    (found,) = folder.glob(f"{name}-*.whl")
    return found
