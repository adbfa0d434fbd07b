# VoxTune: `make demo` sets everything up and trains a small voice, `make test` runs the tests.
# Needs git, make and python3; uv is taken from the PATH or put into .uv/. Nothing needs root.

.DEFAULT_GOAL := help
.PHONY: help setup demo doctor test lint clean login test-config train eval upload-model

UV = $$(command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)
PYTHON := .venv/bin/python
WORKERS ?= 2
KANI_CONFIG ?= configs/kani
# Compiled modules are kept in .venv; compiling them costs 12 CPU-seconds at each start of a tool.
unexport PYTHONDONTWRITEBYTECODE

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: .uv-ready ## install everything into .venv (uv is bootstrapped when there is none)
	@"$(UV)" sync --frozen --inexact || { echo "setup: could not install the packages; see the lines above. \
	Is the network there, and python 3.11 or newer (Debian package: python3)?" >&2; exit 1; }

demo: setup ## train a small voice on the bundled recordings and write a report
	@$(PYTHON) tools/lewm_demo.py

doctor: ## look whether this machine is fit for the work, and what is missing
	@test -x $(PYTHON) || { echo "doctor: nothing is installed yet: make setup" >&2; exit 1; }
	@$(PYTHON) tools/doctor.py

test: setup ## run the test suite
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(WORKERS) --dist worksteal

lint: setup ## ruff (lint and format) and pyright
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m pyright

login: setup ## log in to the Hugging Face hub, and to Weights & Biases where it is installed
	@.venv/bin/hf auth login
	@test ! -x .venv/bin/wandb || .venv/bin/wandb login

test-config: setup ## check the YAML files of KaniTTS (KANI_CONFIG=configs/kani)
	@$(PYTHON) tools/kani_check_config.py --config-dir "$(KANI_CONFIG)"

train: setup ## train the experiments of KaniTTS (KANI_CONFIG=configs/kani)
	@$(PYTHON) tools/kani_train.py --config-dir "$(KANI_CONFIG)"

eval: setup ## let base and experiments of KaniTTS speak, and rank them (KANI_CONFIG=configs/kani)
	@$(PYTHON) tools/kani_eval.py --config-dir "$(KANI_CONFIG)"

upload-model: setup ## send a model to the hub, private: make upload-model MODEL=balanced REPO=you/name
	@test -n "$(MODEL)" -a -n "$(REPO)" || { echo "upload-model: MODEL=name of a folder in \
	checkpoints/ and REPO=you/name are needed" >&2; exit 1; }
	@test -f "checkpoints/$(MODEL)/experiment.json" || { echo "upload-model: no model was trained in \
	checkpoints/$(MODEL)" >&2; exit 1; }
	@.venv/bin/hf upload "$(REPO)" "checkpoints/$(MODEL)" --private

clean: ## remove the installation and the caches; recordings and voices stay
	@rm -rf .venv .uv .pytest_cache .ruff_cache .hypothesis

.PHONY: .uv-ready
.uv-ready:
	@command -v git >/dev/null || { echo "setup: git is missing. Debian package: git" >&2; exit 1; }
	@if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then exit 0; fi; \
	if [ -x .uv/bin/uv ] && .uv/bin/uv --version >/dev/null 2>&1; then exit 0; fi; \
	command -v python3 >/dev/null || { echo "setup: python3 is missing. Debian package: python3" >&2; exit 1; }; \
	python3 -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "setup: python3 cannot make virtual environments. Debian package: python3-venv" >&2; exit 1; }; \
	echo "setup: putting uv into .uv/"; \
	python3 -m venv --clear .uv && .uv/bin/python -m pip install --quiet --disable-pip-version-check uv \
	  || { rm -rf .uv; echo "setup: could not install uv; is the network there?" >&2; exit 1; }
