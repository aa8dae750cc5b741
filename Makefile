# Everything a developer and CI run. Needs Python 3.11 or later and make; `make setup` fetches the rest once.

.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
# The stamp's name holds the lock's content and this folder's name (a venv cannot be moved): a new one sets up again.
STAMP := $(VENV)/.setup-$(shell { cat requirements.lock; pwd; } | cksum | tr -dc '0-9')
WORKERS ?= 3
# Bytecode is kept whatever the environment says: compiling anew would cost each of hundreds of processes 2 s.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/bytecode
LINTED := $(wildcard src tests benchmarks migrations)

define FIND_PYTHON
for candidate in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
done; \
if [ -z "$$python" ]; then echo "setup: no Python 3.11 or later on PATH: install one, or say make PYTHON=/path/to/python3" >&2; exit 1; fi; \
if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	echo "setup: $$python cannot make virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; \
fi
endef

.NOTPARALLEL:
.PHONY: help setup test lint lint-docker types layers unit mutation fmt demo chaos chaos-broken bench backlog soak lock clean simulate-seeds

help: ## list the targets
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## build .venv from requirements.lock (again only when the lock changes)

# uv, itself from the lock and checked by pip, installs the rest: 10 s in all instead of pip's 35 s on a cold machine. Where uv
# cannot run or reach the index (pip may be configured for a mirror that uv does not know), pip does all of it.
$(STAMP):
	@$(FIND_PYTHON); \
	echo "setup: $(VENV) with $$("$$python" --version), about 155 MB to download when cold"; \
	"$$python" -m venv --clear $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.lock
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(VENV)/uv.lock \
		&& $(BIN)/uv pip install --quiet --no-config --python $(BIN)/python --require-hashes --no-deps -r requirements.lock; then :; \
	else \
		echo "setup: uv could not install the lock, trying pip"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

test: lint lint-docker types layers unit ## everything CI runs: ruff, hadolint, mypy, import-linter, pytest with coverage

lint: setup ## ruff check and ruff format --check
	@echo "== ruff check"
	@$(BIN)/ruff check $(LINTED)
	@echo "== ruff format --check"
	@$(BIN)/ruff format --check $(LINTED)

lint-docker: setup ## hadolint on the Dockerfile, the schema of compose files on compose.yaml
	@echo "== hadolint"
	@$(BIN)/hadolint --failure-threshold style Dockerfile
	@echo "== check-jsonschema compose.yaml"
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml

types: setup ## mypy --strict
	@echo "== mypy"
	@$(BIN)/mypy $(wildcard src tests benchmarks)

layers: setup ## import-linter: what may import what
	@echo "== import-linter"
	@$(BIN)/lint-imports

# Each worker has a PostgreSQL and a broker of its own (about 1 GB); a file's tests stay with one worker.
unit: setup ## pytest with coverage (ARGS="-k name" for some of it, WORKERS=0 in one process)
	@echo "== pytest"
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(ARGS)

mutation: setup ## are the rules held by their tests: 9 of 10 mutants killed (ARGS="storm" or "--sample 20 --seed 7" for less)
	@$(BIN)/python -m tests.mutation $(ARGS)

fmt: setup ## format, and mend what ruff can
	@$(BIN)/ruff check --fix $(LINTED)
	@$(BIN)/ruff format $(LINTED)

demo: setup ## a simulated fleet, live: first alert, first call
	@$(BIN)/telemetry-svc demo $(ARGS)

chaos: setup ## kill everything while 100 000 pings come in, then compare (SEED=7 one seed, SEEDS=20 twenty, ARGS=--short)
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

chaos-broken: setup ## the checker is checked: each deliberately broken build, and the figure that caught it (ARGS="NAME ...")
	@$(BIN)/python -m tests.chaos.builds $(ARGS)

bench: setup ## pings per second, against the limit of this machine
	@$(BIN)/python -m benchmarks.ingest $(ARGS)

simulate-seeds: setup ## simulated lives of the whole pipeline under faults (SEEDS=10000 many, FROM=1 the first, TRACE=1 every step)
	@$(BIN)/python -m tests.simulation --from $(or $(FROM),1) --seeds $(or $(SEEDS),1000) $(if $(TRACE),--trace) $(ARGS)

backlog: setup ## the memory of ingest while it reads a million pings of backlog
	@$(BIN)/python -m benchmarks.backlog $(ARGS)

soak: setup ## does any process's memory grow at twice the usual load (MINUTES=240, an hour by default; ARGS="--help")
	@$(BIN)/python -m benchmarks.soak $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

lock: setup ## make both locks anew from pyproject.toml (names, versions, hashes only); the image needs the second
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--extra embedded --extra dev pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--constraint requirements.lock pyproject.toml -o requirements-runtime.lock

clean: ## remove what the targets above made
	@rm -rf $(VENV) dist .coverage htmlcov .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
