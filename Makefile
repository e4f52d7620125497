# Two commands: `make demo` trains a model that learns to write, `make test` runs every test.
#
# On Linux, PyPI's torch brings gigabytes of GPU libraries. For the small CPU build:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=

# About 90 seconds on 2 cores.
DEMO := --hidden 256 --steps 3200 --lr 0.005 --schedule cosine --warmup 100 --evaluate-every 400

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed

.PHONY: help install demo test lint docs bench bench-cells bench-grid clean

help:
	@echo "make demo     train on the built-in English for about 90 seconds and watch it learn"
	@echo "make test     run every test"
	@echo "make install  create $(VENV) with the pinned set (demo and test begin with it)"
	@echo "make lint     ruff and pyright"
	@echo "make docs     build the documentation into docs/_build/html"
	@echo "make bench    time it against torch and others, for the page on speed; bench-cells: every cell,"
	@echo "              bench-grid: many sizes"
	@echo "make clean    remove $(VENV), the demo's run and everything built"

install: $(STAMP)

# What builds the native core comes first, so that the project builds with the pinned versions.
$(STAMP): pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*.?pp native/CMakeLists.txt)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --upgrade pip
	$(PIP) install --quiet --constraint constraints.txt scikit-build-core nanobind cmake ninja
	$(PIP) install --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		--no-build-isolation --editable . --group test --group lint --group docs
	touch $@

demo: install
	$(BIN)/unrolled train generate $(DEMO) --out runs/demo --overwrite

test: install
	$(BIN)/python -m pytest -n auto --maxprocesses 4

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: install
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

# A quiet machine, please. What of jax, onnx, onnxruntime and torchrecurrent is in $(VENV) takes part.
bench: install
	$(BIN)/unrolled bench --out benchmarks/results/workloads.json --picture docs/_static/speed.png
	$(BIN)/python docs/tables.py

# About ten minutes, with the noise in the loop.
bench-cells: install
	$(BIN)/unrolled bench 'cell:*' 'wiring:*' --seconds 5 --out benchmarks/results/cells.json
	$(BIN)/python docs/tables.py

# About an hour.
bench-grid: install
	$(BIN)/unrolled bench --grid --seconds 1 --out benchmarks/results/grid.json --picture docs/_static/grid.png
	$(BIN)/python docs/tables.py

clean:
	rm -rf $(VENV) build dist runs/demo docs/_build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
