# One verb each, the same on a laptop and in CI.  `make help` lists them.
#
# Nothing has to be installed by hand: the virtual environment is made from a hash-locked list, the lab brings its own
# Kubernetes.  Needed beforehand: Linux, make, bash and a Python of 3.11 or newer with its venv module (as root on a
# Debian the verb `venv` installs that module itself).

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

# The lab and the demo read these; `make demo CLUSTER=kind`, `make demo CLUSTER=current CONTEXT=name`.
CLUSTER ?= lab
CONTEXT ?=
export CLUSTER CONTEXT

PYTHON ?= python3
BIN    := .venv/bin
# The environment is remade when what it is made from changes, by content: checking out a branch changes no content.
KEY    := $(shell cat requirements/dev.lock pyproject.toml | cksum | cut -d' ' -f1)
STAMP  := .venv/made-from-$(KEY)
COLOUR := $(if $(CI),no,auto)

.PHONY: help
help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(STAMP)  ## .venv from requirements/dev.lock, every file checked against its hash

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "make venv: '$(PYTHON)' is missing or older than 3.11; install one, or name it: make venv PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        echo "make venv: this Python has no venv module, installing python3-venv"; \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; \
	    else \
	        echo "make venv: '$(PYTHON)' has no venv module; install it (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; \
	    fi; }
	@echo "make venv: .venv from requirements/dev.lock"
	@rm -f .venv/made-from-*
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: check
check: $(STAMP)  ## layout guard, ruff, mypy --strict, import-linter, yamllint
	@echo "check: layout";        $(BIN)/pytest -q --no-header tests/unit/test_layout.py
	@echo "check: format";        $(BIN)/ruff format --check .
	@echo "check: lint";          $(BIN)/ruff check .
	@echo "check: types";         $(BIN)/mypy
	@echo "check: imports";       $(BIN)/lint-imports
	@echo "check: yaml";          $(BIN)/yamllint --strict .
	@echo "check: all good"

# Two parts, so that a wrong line shows before a cluster is built for it.  The lab is down afterwards, whatever happens;
# the last two lines are the summaries of the two parts.
.PHONY: test
test: $(STAMP)  ## every test: units, real TLS Redis, real Kubernetes; the lab is down at the end
	@mkdir -p build
	@echo "test: units and TLS Redis"
	@$(BIN)/pytest tests -m "not cluster" --color=$(COLOUR) 2>&1 | tee build/test-local.log
	@echo "test: the lab"
	@trap '$(PYTHON) -m tests.lab down' EXIT; trap 'exit 130' INT TERM; \
	    $(PYTHON) -m tests.lab up; \
	    $(PYTHON) -m tests.lab images; \
	    echo "test: on the cluster"; \
	    $(BIN)/pytest tests -m cluster --color=$(COLOUR) 2>&1 | tee build/test-cluster.log
	@tail -qn1 build/test-local.log build/test-cluster.log

.PHONY: demo
demo: $(STAMP)  ## the whole story on a real cluster, each step with its proof (CLUSTER=lab, kind or current)
	@$(BIN)/python -m tests.demo

.PHONY: bench
bench: $(STAMP)  ## measured figures beside their goals: a table, and build/bench.json
	@mkdir -p build
	@$(BIN)/python -m tests.bench

.PHONY: lab
lab:  ## start a real Kubernetes of two nodes, without Docker
	@$(PYTHON) -m tests.lab up

.PHONY: lab-down
lab-down:  ## stop it and leave nothing behind
	@$(PYTHON) -m tests.lab down

.PHONY: images
images:  ## build the images and load them into the lab
	@$(PYTHON) -m tests.lab images

# Everything is resolved once, for the developer; what the images install is a subset of exactly that.
# No index address, no path and no header gets into a lock: whoever installs decides where from.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links
.PHONY: lock
lock: $(STAMP)  ## resolve the newest allowed versions into requirements/*.lock
	@$(LOCK) --upgrade pyproject.toml --extra operator --group dev --output-file requirements/dev.lock
	@$(LOCK) pyproject.toml --extra agent    --constraint requirements/dev.lock --output-file requirements/agent.lock
	@$(LOCK) pyproject.toml --extra operator --constraint requirements/dev.lock --output-file requirements/operator.lock
	@$(LOCK) --group build                   --constraint requirements/dev.lock --output-file requirements/build.lock
	@$(MAKE) venv

.PHONY: clean
clean:  ## remove what the verbs made here (the lab keeps its cache; stop it with make lab-down)
	@rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find operator tests -name __pycache__ -type d -prune -exec rm -rf {} +
