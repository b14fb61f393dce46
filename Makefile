# The developer's manual. `make` alone lists what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LISTEN ?= 127.0.0.1:8080
BENCH ?=
COVERAGE ?=
# Two stamps: what running mjrelay needs is installed, and what working on it needs.
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help run test test-wheel matrix coverage e2e test-vm soak bench lint format types dist deb setup clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make the virtual environment

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "Python's venv is needed: sudo apt install python3-venv"; rm -rf $(VENV); exit 1; }

$(RUNS): pyproject.toml | $(BIN)/pip
	@echo "Installing mjrelay and the libraries it needs into $(CURDIR)/$(VENV), this once"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(READY): pyproject.toml | $(BIN)/pip
	@echo "Installing mjrelay, its libraries and what its tests need into $(CURDIR)/$(VENV), this once"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(RUNS) $@

run: $(RUNS)  ## serve a moving test card on 127.0.0.1:8080
	@$(BIN)/mjrelay run --listen $(LISTEN) testcard:

test: $(READY)  ## run the tests (3 minutes at most)
	$(BIN)/python -m pytest -q -n auto  # mostly they wait; one worker for each core

test-wheel: dist  ## run the tests against the wheel, installed into a fresh virtual environment
	$(BIN)/python -m tests.matrix --here dist/*.whl

matrix: dist  ## the same with each Python that is installed, and with the oldest libraries
	$(BIN)/python -m tests.matrix dist/*.whl

e2e: $(READY)  ## run the tests with ffmpeg, curl, Chromium, strace and a C compiler
	$(BIN)/python -m pytest -q -m e2e tests/e2e tests/bench

test-vm: $(READY)  ## run the tests with real USB cameras, in a virtual machine
	PATH="$(CURDIR)/$(BIN):$$PATH" tests/vm/build.sh
	$(MAKE) deb
	$(MAKE) deb DEB_VERSION=99
	tests/vm/vmrun.py --timeout 1800

coverage: $(READY)  ## how much of each module its own tests run (COVERAGE=--write: into CONTRIBUTING.md)
	$(BIN)/python -m tests.coverage $(COVERAGE)

soak: $(READY)  ## five minutes with 50 clients and a camera that misbehaves
	$(BIN)/python -m tests.soak --seconds 300 --clients 50

bench: $(READY)  ## measure what it costs, for half an hour (BENCH="--only 100x100k")
	$(BIN)/python -m tests.bench $(BENCH)

lint: $(READY)  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)  ## check types
	$(BIN)/mypy

dist: $(READY)  ## build the wheel into dist/
	@rm -rf build dist/*.whl  # a module that has been deleted may still be in build/
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

deb: $(READY)  ## build a Debian package into dist/ (DEB_VERSION=, DEB_ARCH=, DEB_PYTHON=)
	PATH="$(CURDIR)/$(BIN):$$PATH" systemd/deb/build.sh

clean:  ## remove everything made here
	rm -rf $(VENV) build dist tests/vm/build tests/vm/out *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
