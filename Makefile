# reprodebug: `make help` lists the targets.
#
# PYTHON       interpreter for the virtual environment (3.11 or newer); the targets for GPUs run in it directly where its torch
#              reaches one: nothing is installed then, and what needs a package that is not there is left out
# TORCH_INDEX  extra pip options for torch alone. On Linux a plain torch brings several gigabytes of CUDA libraries; a CPU
#              build is enough: TORCH_INDEX="--index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
BIN := $(VENV)/bin
WORKERS ?= 2
# pinned all through, what builds the package included: the one name is for pip before 25.3, the other for later ones
PIP_INSTALL = PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check

# $(call on_gpu,what Python runs,packages that it takes,what to install where they or the GPU are not within reach of PYTHON)
define on_gpu
	@export PYTHONPATH="$(CURDIR)"; \
	if $(PYTHON) -c 'import sys, $(subst $(space),$(comma),$(2)), torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then \
		set -x; $(PYTHON) $(1); else $(MAKE) $(VENV)/$(3).stamp && set -x && $(BIN)/python $(1); fi
endef
comma := ,
space := $(subst ,, )

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-gpu lint cases zoom-cases fuzz samples samples-gpu screenshots bench bench-gpu clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/base.stamp: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("reprodebug needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --no-deps $(TORCH_INDEX) torch # first and alone, so that TORCH_INDEX is asked for nothing else
	$(PIP_INSTALL) -e .
	$(BIN)/python -m compileall -q reprodebug # pip compiles what it copies; this is not copied
	touch $@

$(VENV)/test.stamp: $(VENV)/base.stamp
	$(PIP_INSTALL) -e '.[test,lint]'
	touch $@

$(VENV)/bench.stamp: $(VENV)/base.stamp
	$(PIP_INSTALL) -e '.[bench]'
	touch $@

demo: $(VENV)/base.stamp ## install, record two runs of a sample script, compare them
	@mkdir -p reprodebug-runs && rm -rf reprodebug-runs/demo-a reprodebug-runs/demo-b
	@cd reprodebug-runs && export PATH="$(abspath $(BIN)):$$PATH" && set -x && \
	reprodebug capture -o demo-a -- python ../sample_runs/scripts/digits.py && \
	reprodebug capture -o demo-b -- python ../sample_runs/scripts/digits.py --print-sample && \
	{ reprodebug compare demo-a demo-b; code=$$?; } && { set +x; } 2>/dev/null && test $$code -eq 1

test: $(VENV)/test.stamp lint ## lint and the test suite
	$(BIN)/python -m pytest -q -n $(WORKERS) -m 'not slow and not gpu'

test-all: $(VENV)/test.stamp lint ## the slow tests too: kills at random moments, every case
	$(BIN)/python -m pytest -q -n $(WORKERS) -m 'not gpu'

test-gpu: ## tests that need a CUDA device
	$(call on_gpu,-m pytest -q -m gpu,numpy pytest,test)

lint: $(VENV)/test.stamp ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

cases: $(VENV)/test.stamp ## run every irreproducibility case and print what was found
	$(BIN)/python -m tests.cases.runner

zoom-cases: $(VENV)/test.stamp ## zoom into every divergent case, and what a brute-force trace says
	$(BIN)/python -m tests.zoom.cases

fuzz: $(VENV)/test.stamp ## 10,000 mutated inputs for each reader of a binary format
	REPRODEBUG_FUZZ=10000 $(BIN)/python -m pytest -q -n $(WORKERS) tests/foreign/test_hostile.py

samples: $(VENV)/test.stamp ## record sample_runs/ again
	$(BIN)/python sample_runs/make.py

samples-gpu: ## record sample_runs/gpu on an NVIDIA GPU
	$(call on_gpu,sample_runs/make.py --gpu,numpy h5py scipy git deepdiff,test)

screenshots: $(VENV)/test.stamp ## the pictures in the README
	$(BIN)/python sample_runs/screenshots.py

bench: $(VENV)/bench.stamp ## overhead of recording, and comparing a million events
	$(BIN)/python -W ignore -m tests.benchmarks.overhead
	$(BIN)/python -m tests.benchmarks.scale
	$(BIN)/python -m tests.benchmarks.startup
	$(BIN)/python -m tests.benchmarks.screen
	$(BIN)/python -m tests.benchmarks.experiments
	$(BIN)/python -m tests.benchmarks.foreign

bench-gpu: ## overhead and throughput of recording on an NVIDIA GPU
	$(call on_gpu,-W ignore -m tests.benchmarks.gpu,numpy,bench)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
