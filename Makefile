# Each target makes the environment that it needs: Python 3.11 or newer is all that must be there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench gate ratios scenes steady soak augment paper cluster clean

demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not alone' -n logical --maxprocesses 8 --dist worksteal
	$(BIN)/python -m pytest -m alone

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m pytest benchmarks -rP --benchmark-json=benchmarks/latest.json

gate: $(READY)
	$(BIN)/python -m benchmarks.gate

ratios: $(READY)
	$(BIN)/python -m benchmarks.ratios

scenes: $(READY)
	$(BIN)/python -m benchmarks.scenes ../shared/data/3d

steady: $(READY)
	$(BIN)/python -m benchmarks.steady ../shared/data/video 'routes=[person,car]' --docs docs/steady.md

soak: $(READY)
	$(BIN)/python -m benchmarks.soak --minutes 30

augment: $(READY)
	$(BIN)/python -m benchmarks.augment ../shared/data/camvid $(or $(WORK),outputs/augment)

paper: $(READY)
	$(BIN)/python -m benchmarks.paper

cluster: $(READY)
	$(BIN)/python -m benchmarks.cluster

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "CBS needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) build dist
