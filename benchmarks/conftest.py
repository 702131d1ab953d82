"""Benchmarks run the project's own nets with random weights: time does not depend on them."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="every combination, which takes hours")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fails a session in which nothing was measured: that must not look like success."""
    measured = getattr(session.config, "_benchmarksession", None)
    if exitstatus == 0 and (measured is None or not measured.benchmarks):
        session.exitstatus = 1
        print("\nno benchmark was executed")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for weights of this session."""
    return tmp_path_factory.mktemp("weights")
