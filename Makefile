# Everything a person runs; 'make help' lists it.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
TASK ?= series
CONFIG ?= pipelines/configs/$(TASK)/compare.yaml
MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlruns/mlflow.db
export MLFLOW_TRACKING_URI
# Nothing that MLflow loads may be a pickle, which runs code; whoever needs it says so.
MLFLOW_ALLOW_PICKLE_DESERIALIZATION ?= false
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION
PORT ?= 5000
SERVE_PORT ?= 5001

.DEFAULT_GOAL := help
.PHONY: help compare reference ui serve server test test-fast lint clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Unroll needs Python 3.11 or newer; say which with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

mlruns:
	@mkdir -p mlruns

compare: .venv/.installed | mlruns ## Compare every architecture on the embedded data (TASK=panel, imputation, sequences, tweets, handwriting; ARGS='...')
	$(BIN)/python -m pipelines.compare --config $(CONFIG) $(ARGS)

reference: .venv/.installed | mlruns ## The reference table: as compare, longer (about half an hour)
	$(BIN)/python -m pipelines.compare --config pipelines/configs/series/compare_reference.yaml $(ARGS)

ui: .venv/.installed | mlruns ## Browse runs, figures, reports and models at http://127.0.0.1:5000 (PORT=...)
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --backend-store-uri "$(MLFLOW_TRACKING_URI)" --host 127.0.0.1 --port $(PORT)

serve: .venv/.installed | mlruns ## Serve a registered model: make serve MODEL=sum_of_sines (SERVE_PORT=5001, ARGS='--workers 4')
	@test -n "$(MODEL)" || { echo "error: say which model: make serve MODEL=sum_of_sines"; exit 2; }
	$(BIN)/python -m pipelines.serve --model "$(if $(findstring :/,$(MODEL)),$(MODEL),models:/$(MODEL)@champion)" --port $(SERVE_PORT) $(ARGS)

server: .venv/.installed ## A tracking server with PostgreSQL and accounts, for this machine (docs/operations.md)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server]'
	PORT=$(PORT) deploy/server.sh

lint: .venv/.installed-dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-fast: .venv/.installed-dev ## Unit tests
	env -u MLFLOW_TRACKING_URI $(BIN)/python -m pytest -m 'not slow'

test: lint ## Everything that CI runs: lint, types, unit and end-to-end tests
	env -u MLFLOW_TRACKING_URI $(BIN)/python -m pytest

clean: ## Remove caches and the virtual environment (never mlruns)
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
