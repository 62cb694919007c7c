# `make help` lists the targets. Everything is installed into .venv, again only when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
TEST_ARGS ?=
BENCH_ARGS ?=
# A folder of labelled failures for `make bench`, see benchmarks/clustering.py.
LABELLED ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CORE := $(VENV)/.core
TEST := $(VENV)/.test
LINT := $(VENV)/.lint

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench clean

help:  ## list the targets
	@awk -F ':.*  ## ' '/^[a-z]+:.*  ## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(CORE)  ## run the example's suite with TraceTriage (it is red on purpose)
	@sh examples/demo.sh $(BIN)

test: $(TEST)  ## run the tests on two processes (TEST_ARGS='-k name')
	@$(BIN)/python -m pytest -n2 tests $(TEST_ARGS)

lint: $(LINT)  ## ruff, mypy, and the direction of imports
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/ruff format --check --quiet --output-format concise .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache >$(VENV)/lint-imports.txt || { cat $(VENV)/lint-imports.txt; exit 1; }

format: $(LINT)  ## let ruff format and repair what it can
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

bench: $(CORE)  ## measure overhead and throughput, and clustering quality when LABELLED=FOLDER is given
	@$(BIN)/python benchmarks/overhead.py $(BENCH_ARGS)
	@$(BIN)/python benchmarks/throughput.py
	@if [ -n "$(LABELLED)" ]; then $(BIN)/python benchmarks/clustering.py "$(LABELLED)"; fi

clean:  ## remove caches, builds and the runs of the example (not .venv)
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@rm -rf .tracetriage examples/shop/.tracetriage examples/shop/.pytest_cache
	@find pytest_tracetriage tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(CORE): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --editable '.[zstd]'
	@touch $@

$(TEST): $(CORE)
	@$(PIP) install --group test
	@touch $@

$(LINT): $(CORE)
	@$(PIP) install --group lint
	@touch $@
