# Everything a clone needs. `make` alone lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV ?= .venv
ARGS ?=
JOBS ?= 2
PEERS ?=

BIN := $(VENV)/bin
PY := $(BIN)/python
STAMPS := $(VENV)/.stamps
CODE := omniroute tests wsgi.py ecosystem
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.PHONY: help run test check format lint types layers docs texts screenshots compat bench lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' Makefile | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

run: $(STAMPS)/run ## start the server; its data goes to ./instance unless DATA_DIR says otherwise
	@if [ -z "$$DATA_DIR$$OMNIROUTE_DATA_DIR" ] && ! grep -Eqs '^[[:space:]]*(export[[:space:]]+)?(OMNIROUTE_)?DATA_DIR=.' .env; \
	then DATA_DIR=instance; export DATA_DIR; fi; \
	exec $(BIN)/omniroute server $(ARGS)

test: $(STAMPS)/dev $(STAMPS)/compat ## run all tests, in JOBS=2 processes; ARGS="tests/cli -k doctor" runs some
	@sh ecosystem/setup/system-packages.sh postgresql:/usr/lib/postgresql/*/bin/postgres curl:curl nginx-light:/usr/sbin/nginx openssl:openssl chromium:chromium
	$(PY) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: format lint types layers ## format, lint, types and layers, as CI would see them

format: $(STAMPS)/dev
	$(BIN)/ruff format --check $(CODE)

lint: $(STAMPS)/dev
	$(BIN)/ruff check $(CODE)

types: $(STAMPS)/dev
	$(BIN)/mypy

layers: $(STAMPS)/dev
	$(PY) -m pytest -q tests/test_layers.py

docs: $(STAMPS)/run ## write the pages of ecosystem/docs that are made from the code
	$(PY) ecosystem/docs/generate.py

texts: $(STAMPS)/dev ## collect the texts of the pages for translation, into omniroute/translations
	$(PY) ecosystem/setup/texts.py

screenshots: $(STAMPS)/dev ## take pictures of all pages, into ecosystem/docs/images/pages
	@sh ecosystem/setup/system-packages.sh chromium:chromium
	$(PY) ecosystem/docs/screenshots.py $(ARGS)

compat: $(STAMPS)/dev $(STAMPS)/compat ## run real clients and agents through the gateway; writes ecosystem/docs/compatibility.md
	$(PY) -m pytest tests/compat --write-matrix $(ARGS)

bench: $(STAMPS)/bench ## measure; PEERS=1 measures other gateways beside it
	@sh ecosystem/setup/system-packages.sh nginx-light:/usr/sbin/nginx wrk:wrk
	$(PY) ecosystem/bench/run.py $(if $(PEERS),--peers) $(ARGS)

lock: ## resolve the dependencies anew and write the locks
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	$(LOCK) pyproject.toml --output-file requirements.lock
	$(LOCK) pyproject.toml --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(LOCK) pyproject.toml --extra bench --constraint requirements.lock --output-file requirements-bench.lock
	$(LOCK) ecosystem/compat/requirements.in --output-file ecosystem/compat/requirements.lock
	printf 'setuptools>=77\n' | $(LOCK) - --output-file requirements-build.lock

clean: ## remove the environment, caches and builds; never the data
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis ecosystem/bench/.work
	find omniroute tests ecosystem -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments: one virtual environment, filled step by step; a stamp is newer than the lock it was made from ----

$(PY):
	@sh ecosystem/setup/python.sh "$(PYTHON)" "$(VENV)"

$(STAMPS)/packages: requirements.lock requirements-build.lock pyproject.toml | $(PY)
	@echo "Installing the dependencies; this takes a while the first time."
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-build.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@mkdir -p $(STAMPS) && touch $@

# What pages need beside Python: libraries for the browser, and catalogues in the form that gettext reads.
$(STAMPS)/pages: ecosystem/setup/browser.lock ecosystem/setup/browser_files.py ecosystem/setup/pages.sh $(wildcard omniroute/translations/*/LC_MESSAGES/*.po) $(STAMPS)/packages
	@sh ecosystem/setup/pages.sh "$(abspath $(PY))"
	@touch $@

$(STAMPS)/run: $(STAMPS)/packages $(STAMPS)/pages
	@touch $@

$(STAMPS)/dev: requirements-dev.lock $(STAMPS)/run
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/bench: requirements-bench.lock $(STAMPS)/run
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/compat: $(addprefix ecosystem/compat/,requirements.lock package.json package-lock.json) | $(PY)
	@echo "Installing the clients of the compatibility lab; this takes a while and 2 GB the first time."
	@sh ecosystem/setup/clients.sh $(PY) $(VENV)/compat
	@mkdir -p $(STAMPS) && touch $@
