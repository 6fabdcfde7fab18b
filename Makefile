# `make run` starts the console, `make test` proves it. Both set up what they need first; nothing else has to be known.

PYTHON ?= python3
PORT ?= 8501
# One test file stays on one worker, so that its fixtures (a browser, a console) are built once.
PYTEST_ARGS ?= -n 2 --dist loadfile
BIN := .venv/bin
SETUP := $(PYTHON) scripts/setup.py

# The environment by name. Shells use $ENV for a start-up file: a value that is a path is theirs, not ours.
ifneq ($(ENV),)
ifeq ($(findstring /,$(ENV)),)
export NOVADE_ENVIRONMENT := $(ENV)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help run test check format setup setup-run setup-stack setup-test chaos bench bench-large lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

run: setup-run ## set up, then start the console on http://127.0.0.1:8501 (ENV=name: another environment; PORT=n)
	@exec $(BIN)/streamlit run app.py --server.address 127.0.0.1 --server.port $(PORT) \
		--server.headless true --browser.gatherUsageStats false

test: setup-test check ## set up, then check and run every test (PYTEST_ARGS="-x tests/unit": others)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: setup-test ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file scripts/mypy-ordinary.ini scripts bench $(wildcard jobs)
	$(BIN)/lint-imports --no-logo

format: setup-test ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: ## set up for run and test, trying again what could not be installed before
	@$(SETUP) test --again

# Azure's stand-ins are large, and only one environment uses them.
setup-run:
	@$(SETUP) $(if $(filter stack,$(ENV)),stack,run)

setup-stack:
	@$(SETUP) stack

setup-test:
	@$(SETUP) test

chaos: setup-test ## kill, stop and starve three workers for 200 runs on each ledger (CHAOS_ARGS="--runs 50 --seed 1": others)
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

bench: setup-stack ## measure at standard sizes, under 15 minutes (ONLY=name: one of them)
	$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

bench-large: setup-stack ## measure at large sizes (ONLY=name: one of them)
	$(BIN)/python -m bench --large $(if $(ONLY),--only $(ONLY))

lock: ## resolve requirements*.in again (LOCK_ARGS=--upgrade: to the newest versions)
	$(PYTHON) scripts/lock.py $(LOCK_ARGS)

clean: ## remove caches (to start over: rm -rf .venv var; var/ holds ledger, landing and warehouse)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
