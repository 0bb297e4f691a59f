# Everything a newcomer needs: `make quickstart`, `make test`. Both make .venv by themselves, from the pins of
# constraints.txt; the stamp makes the second call immediate.
PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The hub takes half a minute to fail offline; two threads of torch on tiny models are slower than one.
TEST_ENV := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
PYTEST := $(TEST_ENV) $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-full lint format bench docs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP)  ## make .venv with everything that quickstart, tests and lint need

quickstart: $(STAMP)  ## train, generate, score and report on a built-in task (ARGS=... is passed on)
	@$(BIN)/python -m latentthought quickstart $(ARGS)

test: $(STAMP)  ## what CI runs (ARGS='-k name' to choose)
	$(PYTEST) $(ARGS)

test-full: $(STAMP)  ## the same with the complete matrices
	$(PYTEST) --full $(ARGS)

lint: $(STAMP)  ## ruff, formatting, layers, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(STAMP)  ## put right what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## speed and memory, side by side with what one would use instead
	@$(BIN)/python -m benchmarks $(ARGS)

docs: $(STAMP)  ## the documentation as a site in site/; a dead link is an error
	@$(BIN)/python -m mkdocs build --quiet --strict --config-file docs/mkdocs/mkdocs.yml && echo "open site/index.html"

clean:  ## remove the environment and every cache (runs are kept)
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "latentthought needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)." \
	         "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment (on Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing latentthought and its pinned dependencies into $(VENV) (once; a minute or two)"
	@PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@
