# What a developer or CI runs; each target does only what isn't done yet.
#
#   make demo    from nothing to live semantic search
#   make check   lint, types, layers and the quick tests: two minutes on two cores
#   make test    set up what tests need, then lint, types, layers and every test
#   make bench   the measurements of docs/benchmarks.md
#
# PYTHON chooses the interpreter (>= 3.11) that .venv is made of.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
STAMPS := .venv/.stamps
# Tests run in this many processes.
JOBS ?= 2

.PHONY: help
help:
	@sed -n 's/^#   //p' Makefile

# Outside the stamp's own recipe nothing looks for an interpreter: a second start must be quick.
$(STAMPS)/venv:
	@python="$(PYTHON)"; \
	for candidate in python3 python3.13 python3.12 python3.11 python; do \
	  if [ -n "$$python" ]; then break; fi; \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Likewise needs Python 3.11 or newer; none was found. Install it, or say: make PYTHON=/path/to/python3 ..." >&2; exit 1; \
	elif ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	  echo "Likewise needs Python 3.11 or newer; $$python is older." >&2; exit 1; \
	elif ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$python can't make a virtual environment: install its venv module (Debian: apt-get install python3-venv)." >&2; exit 1; \
	fi; \
	echo "making .venv with $$("$$python" -V)"; \
	"$$python" -m venv .venv; \
	mkdir -p $(STAMPS); touch $@

# The package and nothing else: what a user gets.
$(STAMPS)/package: $(STAMPS)/venv pyproject.toml
	@echo "installing Likewise and what it needs"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

# What tests need. torch goes first and alone: a build that is there already (such as a CPU build)
# satisfies the pin and stays.
$(STAMPS)/test: $(STAMPS)/package constraints-test.txt
	@echo "installing what tests need (torch and others to compare with; a few minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-test.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-test.txt -e '.[test]'
	@touch $@

.PHONY: setup
setup: $(STAMPS)/test browser network

# The page is tested in a real browser.
.PHONY: browser
browser:
	@if command -v chromium chromium-browser google-chrome >/dev/null; then exit 0; fi; \
	sudo=""; if [ "$$(id -u)" != 0 ]; then sudo="sudo -n"; fi; \
	if command -v apt-get >/dev/null && $$sudo true 2>/dev/null; then \
	  echo "installing chromium"; \
	  $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	else \
	  echo "Tests of the page need a Chromium browser: install the package chromium, then run make again." >&2; exit 1; \
	fi

# Workers on several machines are tested in networks of their own, which only root can make; without
# `ip` those tests are skipped and say why.
.PHONY: network
network:
	@if ! command -v ip >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing iproute2"; \
	  apt-get update -qq && env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends iproute2 >/dev/null \
	    || echo "iproute2 couldn't be installed: tests that need networks of their own are skipped"; \
	fi

.PHONY: demo
demo: $(STAMPS)/package
	@exec $(BIN)/likewise demo

.PHONY: lint
lint: $(STAMPS)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

# What a developer runs before a commit: no real model, no torch, no servers, no processes killed.
# CHECKED is what of tests/ fits into the two minutes beside the types.
CHECKED := tests/arch tests/docs tests/unit/base tests/unit/binding tests/unit/client tests/unit/search \
  tests/unit/server tests/unit/sources tests/unit/text tests/unit/vectors

.PHONY: check
check: $(STAMPS)/test lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -q -m 'not model and not torch and not web' $(CHECKED)

.PHONY: test
test: setup lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

# The libraries that benches compare with want other versions than the tests do, so they have an
# environment of their own.
.venv-bench/.stamp: $(STAMPS)/venv pyproject.toml constraints-test.txt
	@echo "installing what benches compare with (several minutes)"
	@$(BIN)/python -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-test.txt torch
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-test.txt -e '.[bench]'
	@touch $@

# infinity wants a transformers of its own time.
.venv-infinity/.stamp: $(STAMPS)/venv constraints-test.txt
	@echo "installing infinity, for bench/serve.py and tests/endpoints (several minutes)"
	@$(BIN)/python -m venv .venv-infinity
	@.venv-infinity/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-test.txt torch
	@.venv-infinity/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-test.txt \
	  'infinity-emb[server,torch]==0.0.78' 'transformers<4.49' 'optimum<2' 'click<8.2'
	@touch $@

# Servers that others wrote: llama.cpp's, LiteLLM's proxy, and one that speaks as Ollama does. gguf
# writes the file that llama.cpp reads; prisma is what LiteLLM fails without on a request with no key.
.venv-endpoints/.stamp: $(STAMPS)/venv
	@echo "installing the servers that tests/endpoints runs (a minute)"
	@$(BIN)/python -m venv .venv-endpoints
	@.venv-endpoints/bin/python -m pip install --quiet --disable-pip-version-check \
	  'xllamacpp==2026.10.11549' 'gguf==0.19.0' 'litellm[proxy]==1.108.7' 'prisma==0.15.0' 'ollama-proxy-plus==0.1.0'
	@touch $@

# Bindings and `likewise embed` at those servers and infinity; a few minutes.
.PHONY: test-endpoints
test-endpoints: $(STAMPS)/test .venv-endpoints/.stamp .venv-infinity/.stamp
	@$(BIN)/python -m pytest -rP tests/endpoints

# Clients that others wrote, for Python and Node.js, in an environment of their own. NEWEST=1 takes
# the newest versions in place of those that are pinned.
OUTSIDE := $(if $(NEWEST),.venv-outside-newest,.venv-outside)
UNPINNED := sed -E $(if $(NEWEST),'s/==.*//; s/": "[0-9][^"]*"/": "*"/','')
$(OUTSIDE)/.stamp: $(STAMPS)/venv tests/outside/requirements.txt tests/outside/package.json constraints-test.txt
	@echo "installing the clients that tests/outside tries (several minutes)"
	@$(BIN)/python -m venv $(OUTSIDE)
	@$(UNPINNED) tests/outside/requirements.txt > $(OUTSIDE)/requirements.txt
	@$(OUTSIDE)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-test.txt torch
	@$(OUTSIDE)/bin/python -m pip install --quiet --disable-pip-version-check -r $(OUTSIDE)/requirements.txt
	@mkdir -p $(OUTSIDE)/npm $(OUTSIDE)/wheels
	@$(UNPINNED) tests/outside/package.json > $(OUTSIDE)/npm/package.json
	@if command -v npm >/dev/null; then cd $(OUTSIDE)/npm && npm install --silent --no-audit --no-fund --no-package-lock; \
	  else echo "there is no npm here: clients of Node.js are skipped"; fi
	@touch $@

# Those clients against a running server, and real models against their libraries; at most half an hour.
# REPORT=1 writes down in docs/compatibility.md what was seen.
.PHONY: test-outside
test-outside: $(STAMPS)/test $(OUTSIDE)/.stamp
	@NEWEST=$(NEWEST) REPORT=$(REPORT) $(BIN)/python -m pytest -rs tests/outside

.PHONY: bench-serve
bench-serve: .venv-bench/.stamp .venv-infinity/.stamp
	@.venv-bench/bin/python bench/serve.py

# Ten minutes of mixed load on a server, and an orderly end.
.PHONY: soak
soak: $(STAMPS)/test
	@$(BIN)/python bench/soak.py

.PHONY: bench
bench: .venv-bench/.stamp
	@for program in $$(ls bench/[a-z]*.py | grep -v soak.py); do echo "== $$program"; .venv-bench/bin/python "$$program"; done

.PHONY: clean
clean:
	rm -rf .venv .venv-bench .venv-endpoints .venv-infinity .venv-outside .venv-outside-newest .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build demo.db demo.db-*
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
