"""Every example in a docstring of the core holds."""

import doctest
import importlib
import pkgutil

import pytest

import cbs_core

MODULES = [module.name for module in pkgutil.walk_packages(cbs_core.__path__, "cbs_core.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = map(importlib.import_module, MODULES)
    assert sum(len(test.examples) for module in modules for test in finder.find(module)) >= 2
