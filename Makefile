# make setup | test | check | demo | lock | clean          (make help says more)
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-from.lock

# make demo: what is trained, and where its recordings are (none: sounds are synthesised).
DATASET ?= synthetic
DATA_DIR ?= data/$(DATASET)
NAME ?= $(DATASET)-demo
PORT ?= 7860

.PHONY: help setup test check demo lock clean
help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP)  ## .venv from requirements.lock; nothing to do while the lock is unchanged

# The stamp is a copy of the lock: a changed lock, not a newer date, is what asks for pip.
$(STAMP): requirements.lock
	@if cmp -s requirements.lock $(STAMP); then touch $(STAMP); else \
	  set -e; \
	  test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	  echo "installing from requirements.lock (about 6 GB with PyTorch; some minutes)"; \
	  $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -r requirements.lock; \
	  cp requirements.lock $(STAMP); \
	fi

test: setup  ## every test
	$(BIN)/python -m pytest

check: setup  ## lint, format, types, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

demo: setup  ## train, export with parity, and open the demo (DATASET=ESC-10 DATA_DIR=... for real recordings)
	$(BIN)/python -m demo.pipeline 

lock: setup  ## write requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_28 --no-annotate --quiet --output-file requirements.lock

clean:  ## remove what make made, but not .venv
	rm -rf cache runs bundles data/synthetic
