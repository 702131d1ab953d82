"""Chromium, driven by a test."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

needed = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no Chromium and its driver: apt-get install chromium chromium-driver",
)


@contextmanager
def chromium(folder: Path, *arguments: str) -> Iterator[webdriver.Chrome]:
    """A browser whose profile lies in a folder, with further arguments; it keeps its console."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}",
        *arguments,
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield found
    found.quit()
