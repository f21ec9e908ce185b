# SPDX-License-Identifier: Apache-2.0
# Every command of the project. `make` alone lists them; CI runs the same ones.

SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
INSTALLED := .venv/.installed
WORKERS ?= 2

.PHONY: help setup demo peers test check bench

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Create .venv from Python 3.11-3.13 and install the locked packages

$(INSTALLED): uv.lock pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh
	@touch $@

demo: setup ## Order and phantom in, checked AI results out: the main job, in one command
	@$(BIN)/airway demo

peers: setup ## Install what the tests run against: Orthanc, DCMTK, Node FHIR server, rsyslog, ...
	@bash scripts/peers.sh

test: setup peers ## Run every test, real peers included (PYTEST_ARGS="-k word" narrows it, WORKERS=4 widens it)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

check: setup ## Format, lint, types, import directions, banned names
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/lint_names.py

bench: setup peers ## Measure throughput and latency beside Orthanc on this machine
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)
