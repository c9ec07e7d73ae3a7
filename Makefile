# What this project can be asked for; `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-from.lock
VENV_GB := 9

# make demo: what to train on. Without recordings, sounds are synthesised.
DATASET ?= synthetic
DATA_DIR ?= data/$(DATASET)
NAME ?= $(DATASET)-demo
PORT ?= 7860
EPOCHS ?= $(if $(filter synthetic,$(DATASET)),20)
# In so few epochs, batches of the recipe's 64 windows would be too few steps: 83 instead of 94 % on the test fold.
FEW_EPOCHS := --batch-size 16
# Sounds of the bank are easily told apart by class; real ones, and unseen ones above all, want targets made of text.
OBJECTIVE ?= $(if $(filter synthetic,$(DATASET)),classes,text)
TEST_FOLD ?= $(if $(filter synthetic ESC-10 ESC-50,$(DATASET)),4)

# make bench: what to measure; without bundles of yours, quickly trained ones are made, whose speed is the same. They
# have no INT8: of a network that was hardly trained most layers stay in FP32, which says nothing about a trained one.
# After a single epoch of its 18 layers yamnet ranks by chance, and FP16 ranked otherwise too often to be written.
BENCH_NETWORKS := yamnet yamnet-compact vggish
BUNDLES ?= $(BENCH_NETWORKS:%=bundles/bench-%)
BENCH_FLAGS ?=

# Processes that run tests, each with up to 3 GB of memory; 0: the one of pytest itself. More on more cores.
WORKERS ?= 2

.PHONY: help setup test check demo web bench gpu shipped scratch synthesise lock clean FORCE
help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP)  ## .venv from requirements.lock; nothing to do while the lock is unchanged

# The stamp is a copy of the lock: another content, not a newer date, is what asks for pip. Python compiles each module
# when it is first imported; pip would compile all of them, most of which are never used, in a minute. With unheard.pth the
# commands and imports of the README work from any folder.
$(STAMP): requirements.lock
	@if cmp -s requirements.lock $(STAMP); then touch $(STAMP); exit 0; fi; \
	if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing Debian's $(PYTHON)-venv, without which $(PYTHON) makes no environment"; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends $(PYTHON)-venv >/dev/null; \
	  else \
	    echo "error: $(PYTHON) with its venv module is needed; on Debian: apt-get install $(PYTHON)-venv" >&2; exit 2; \
	  fi; \
	fi; \
	free=$$(df --output=avail -BG . | tail -1 | tr -dc 0-9); \
	there=$$({ du -sBG $(VENV) 2>/dev/null || true; } | cut -f1 | tr -dc 0-9); \
	if [ ! -e $(STAMP) ] && [ $$((free + $${there:-0})) -lt $(VENV_GB) ]; then \
	  echo "error: got $$free GB free on the disk of $(CURDIR); wanted $(VENV_GB) GB for $(VENV): remove files, or clone to another disk" >&2; exit 2; \
	fi; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV); \
	echo "installing what requirements.lock names (7 GB with PyTorch's CUDA libraries; some minutes)"; \
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-compile -r requirements.lock; \
	echo "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/unheard.pth"; \
	cp requirements.lock $(STAMP)

# Tests of one file share what is made for them, so one process runs them all. Without the process that runs a file, the
# others would wait for its tests for ever: the run ends instead.
test: setup  ## every test
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

check: setup  ## lint, format, types, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

demo: bundles/$(NAME)/manifest.json  ## train, export, show (DATASET=ESC-10 DATA_DIR=... for real recordings)
	$(BIN)/python -m demo bundles/$(NAME) --port $(PORT) --examples "$(DATA_DIR)"

bundles/$(NAME)/manifest.json: runs/$(NAME)/summary.json
	$(BIN)/python -m export.onnx runs/$(NAME) --out bundles/$(NAME) --overwrite

runs/$(NAME)/summary.json: runs/.$(NAME).asked | $(if $(filter synthetic,$(DATASET)),synthesise,setup)
	$(BIN)/python -m training.run --dataset $(DATASET) --data-dir "$(DATA_DIR)" --network yamnet-compact \
	  --objective $(OBJECTIVE) $(if $(filter classes,$(OBJECTIVE)),--vocabulary 0) $(if $(EPOCHS),--epochs $(EPOCHS)) \
	  $(if $(filter synthetic,$(DATASET)),$(FEW_EPOCHS)) $(if $(TEST_FOLD),--test-fold $(TEST_FOLD)) --out runs/$(NAME) --overwrite

# What was asked for last time: its date changes with its content, so that other settings train anew.
runs/.$(NAME).asked: FORCE
	@mkdir -p runs; asked="$(DATASET) $(DATA_DIR) $(OBJECTIVE) $(EPOCHS) $(TEST_FOLD)"; \
	test "$$asked" = "$$(cat $@ 2>/dev/null)" || echo "$$asked" > $@
FORCE:

# FP32 is the only precision of demo/model: 6.4 MB up to the first name. A bundle with INT8 takes 3.3 MB.
web: setup  ## the shipped bundle as a static site in site/ (needs Node.js)
	$(BIN)/python -m export.web demo/model --out site --overwrite

bench: setup $(if $(filter bundles/bench-%,$(BUNDLES)),$(BENCH_NETWORKS:%=bundles/bench-%/manifest.json))  ## measure all, write docs/results/benchmarks.md (BUNDLES="..." for yours, BENCH_FLAGS=--full for more)
	$(BIN)/python -m benchmarks.suite $(BUNDLES) $(BENCH_FLAGS)

# It runs with whatever is installed: in .venv, or beside a Python of its own (GPU_PYTHON=), and without a network.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)
gpu:  ## measure an NVIDIA GPU in 6 minutes, write docs/results/gpu.md (GPU_FLAGS=--out FILE for another page)
	$(GPU_PYTHON) -m benchmarks.gpu $(GPU_FLAGS)

bundles/bench-%/manifest.json: runs/bench-%/summary.json
	$(BIN)/python -m export.onnx runs/bench-$* --out bundles/bench-$* --precision fp32,fp16 --no-text-model --overwrite

.PRECIOUS: runs/bench-%/summary.json
runs/bench-%/summary.json: | synthesise
	$(BIN)/python -m training.run --dataset synthetic --data-dir "$(DATA_DIR)" --network $* --objective classes --vocabulary 0 \
	  --epochs $(if $(filter vggish,$*),1,3) $(FEW_EPOCHS) \
	  --out runs/bench-$* --overwrite

# The bundle in demo/model: ESC-50, ESC-10 and Google's YAMNet weights, from wherever they are. All its classes are seen, so
# attributes would place none; its published scores are those without.
ESC50 ?= data/ESC-50
ESC10 ?= $(ESC50)
LICENCES ?= $(ESC50)/LICENSE
YAMNET ?= data/yamnet.tflite
shipped: setup  ## make demo/model anew (ESC50=, ESC10=, LICENCES=, YAMNET=: its input)
	$(BIN)/python -m training.data.select_clips "$(ESC10)" "$(ESC50)" --licences "$(LICENCES)" --out data/free --overwrite
	$(BIN)/python -m training.run --dataset ESC-50 --data-dir data/free --network yamnet-audioset --init "$(YAMNET)" \
	  --attributes none --validation-share 0 --out runs/shipped --overwrite
	$(BIN)/python -m training.calibrate runs/shipped --init "$(YAMNET)"
	$(BIN)/python -m export.onnx runs/shipped --out demo/model --no-text-model --overwrite

scratch: setup  ## make demo/model-from-scratch anew (ESC10=; nine trainings, an hour on two cores)
	$(BIN)/python -m training.run --dataset ESC-10 --data-dir "$(ESC10)" --network yamnet-compact \
	  --validation-share 0 --out runs/scratch --overwrite
	$(BIN)/python -m training.calibrate runs/scratch
	$(BIN)/python -m export.onnx runs/scratch --out demo/model-from-scratch --precision fp32,fp16,int8 --no-text-model --overwrite

synthesise: setup
	@test -f "$(DATA_DIR)/meta/esc50.csv" || $(BIN)/python -m training.synthesis --out "$(DATA_DIR)"

lock: setup  ## write requirements.lock anew from pyproject.toml (needs uv)
	{ echo "# Exact versions of everything, for Linux x86-64 and Python 3.11. Written by 'make lock'."; \
	  uv pip compile pyproject.toml --extra dev --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	    --no-header --no-annotate --quiet; } > requirements.lock.new || { rm requirements.lock.new; exit 2; }
	mv requirements.lock.new requirements.lock

clean:  ## remove what make demo, bench and web made, but not .venv
	rm -rf cache data/synthetic site $(foreach made,$(NAME) bench-*,runs/$(made) runs/.$(made).asked bundles/$(made))
