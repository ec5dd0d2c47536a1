# Each target does all of its own set-up. `make demo` is the place to start.
#
#   make demo [ONCE=1] [PORT=8000] [SPEC=examples/digits-async.yaml]
#   make up   [PORT=8000] [HOST=127.0.0.1] [SLOTS=8]
#   make agent                        a node agent alone, on another machine: docs/hosts.md
#   make test [ARGS="-k ledger"]      checks, then every test
#   make check                        ruff and mypy
#   make bench                        the measurements of benchmarks/, one after another: a quarter of an hour
#   make bench-NAME                   one of them: bench-cycle, bench-peers, bench-straggler, …

.DEFAULT_GOAL := help
.PHONY: help demo up agent test check bench peers setup browser network

VENV := .venv
PEERS := .venv-peers
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin
# The first Python of at least 3.11; PYTHON=… chooses another.
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$each"; break; }; done)
PORT ?= 8000
HOST ?= 127.0.0.1
SPEC ?= examples/digits-async.yaml
ARGS ?=

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: setup
	@exec $(BIN)/python manage.py demo --spec $(SPEC) --host $(HOST) --port $(PORT) $(if $(ONCE),--once) $(if $(SLOTS),--slots $(SLOTS))

up: setup
	@exec $(BIN)/python manage.py up --host $(HOST) --port $(PORT) $(if $(SLOTS),--slots $(SLOTS))

agent: setup
	@exec $(BIN)/python manage.py agent

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: browser network check
	@exec $(BIN)/python -m pytest $(ARGS)

bench: setup peers
	@exec $(BIN)/python -m benchmarks $(ARGS)

bench-%: setup
	@exec $(BIN)/python -m benchmarks $*

bench-peers: peers

# What they are compared with is no part of TrainHub, and without it they run all the same: the table says what is missing.
peers: setup
	@$(MAKE) --no-print-directory $(PEERS)/.installed || echo "The peers could not be installed; their table will say so."

$(PEERS)/.installed: benchmarks/requirements-peers.txt
	@echo "Installing what benchmarks/requirements-peers.txt names into $(PEERS), to compare with: about a minute."
	@[ -x $(PEERS)/bin/python ] || "$(PYTHON)" -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "TrainHub needs Python 3.11 or newer, and none was found as python3, python3.11 … python3.14."; \
		echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3 …"; \
		exit 1; fi
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. Install it (Debian, Ubuntu: apt-get install python3-venv) and try again."; \
		exit 1; }
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing what requirements.txt names into $(VENV); the first time takes a minute or two."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# The tests drive a real browser.
browser: setup
	@if command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium for the browser tests."; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 \
		|| { echo "apt-get could not install Chromium. Install it by hand and try again."; exit 1; }; \
	else \
		echo "The tests need Chromium on the PATH, and only root can install it here (Debian: apt-get install chromium)."; \
		exit 1; fi

# Some of them make hosts of their own, as network namespaces; without root they are skipped, and say so.
network: setup
	@if command -v ip >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then :; else \
		echo "Installing iproute2 for the tests of several hosts."; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends iproute2; } >/dev/null 2>&1 \
		|| echo "apt-get could not install iproute2; the tests of several hosts are skipped."; fi
