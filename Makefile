# Retune's commands; `make` alone lists them. Each one first makes .venv where it is missing or the lock has changed.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers

# Beside a development checkout the feedback data may lie ready; elsewhere the loader finds or downloads it.
ifneq ($(wildcard ../shared/data),)
export RETUNE_DATA ?= $(abspath ../shared/data)
endif

# Nothing that runs here reports to anybody.
export DO_NOT_TRACK := 1

PYTHON_DIRS := recsys expectations monitoring retune plugins dags docker benchmarks tests
MYPY_DIRS   := recsys expectations monitoring retune plugins/retune_plugin.py plugins/retune_airflow dags docker benchmarks
BENCHMARKS  := $(filter-out _%,$(notdir $(basename $(wildcard benchmarks/*.py))))

.PHONY: help demo up down test check bench lock

help: ## list the commands
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name says; do \
	    printf '  make %-16s %s\n' "$$name" "$$says"; done

demo: $(STAMP) ## run the whole loop on MovieLens-100K and write var/demo/report.html
	$(BIN)/retune demo

up: $(STAMP) ## leave Airflow running with the line ready to be operated (Ctrl-C ends it)
	$(BIN)/retune up

down: $(STAMP) ## end what `make up` left running
	$(BIN)/retune down

test: $(STAMP) ## run every test; ARGS="-k gate" is handed to pytest
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMP) ## lint, format, types, import layers and Dockerfiles
	$(BIN)/ruff check $(PYTHON_DIRS)
	$(BIN)/ruff format --check $(PYTHON_DIRS)
	$(BIN)/mypy $(MYPY_DIRS)
	PYTHONPATH=plugins $(BIN)/lint-imports --no-logo
	$(BIN)/hadolint docker/Dockerfile.control docker/Dockerfile.gpu

# A name that is missing or wrong is refused before anything is installed for it.
bench: $(if $(filter $(NAME),$(BENCHMARKS)),$(if $(filter warmstart gate,$(NAME)),$(PEERS),$(STAMP))) ## print one table of figures and write var/bench/NAME.json: make bench NAME=quality
	@[[ " $(BENCHMARKS) " == *" $(NAME) "* && -n "$(NAME)" ]] \
	    || { echo "make bench: NAME must be one of: $(sort $(BENCHMARKS)); found '$(NAME)'" >&2; exit 2; }
	$(BIN)/python -m benchmarks.$(NAME) $(ARGS)

lock: $(STAMP) ## resolve requirements.in into requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	    --custom-compile-command 'make lock' --quiet --output-file requirements.lock requirements.in
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	    --custom-compile-command 'make lock' --quiet --output-file benchmarks/peers.lock benchmarks/peers.in

# uv itself comes from the lock, with its hashes, through the pip that a new environment holds; uv installs the rest and
# compiles it, so that no first start of Airflow has to.
$(STAMP): requirements.lock pyproject.toml
	@echo 'Bringing $(VENV) up to requirements.lock; the first time takes some minutes.'
	@python='$(PYTHON)'; \
	if [[ -z $$python ]]; then for found in python3.11 python3.12 python3.13 python3; do \
	    if $$found -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
	    then python=$$found; break; fi; done; fi; \
	[[ -n $$python ]] || { echo 'make: no Python 3.11, 3.12 or 3.13 with venv was found; install one (Debian: python3-venv) or say PYTHON=/path/to/python3' >&2; exit 2; }; \
	[[ -x $(BIN)/python ]] || "$$python" -m venv $(VENV)
	@awk '/^uv==/ {on = 1; print; next} on && !/^ / {exit} on' requirements.lock > $(VENV)/uv.lock
	@[[ -x $(BIN)/uv ]] || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/uv.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

# What one benchmark compares us with is large, and nothing else needs it.
$(PEERS): $(STAMP) benchmarks/peers.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirements benchmarks/peers.lock
	@touch $(PEERS)
