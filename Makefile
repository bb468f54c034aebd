# Trough's commands for a person. `make run` and `make test` need Python 3.11, its venv
# module and nothing else; the tests of HDFS use Java and Maven where these are there.

PYTHON ?= python3
TROUGH_HOME ?= ./var
BIN := .venv/bin

.PHONY: run shell test lint bench clean

# Ctrl-C is the way to stop it, and no error that make should complain about.
run: .venv/installed
	@trap : INT; $(BIN)/twistd --nodaemon --pidfile= trough --home "$(TROUGH_HOME)" --example \
	    || [ $$? -eq 130 ]

shell: .venv/installed
	@$(BIN)/trough-shell -u "sqlite:///$$(realpath "$(TROUGH_HOME)")/registry.db"

test: .venv/tested
	$(BIN)/python tests/fetch_hadoop.py
	$(BIN)/python -m pytest

lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/tested
	$(BIN)/python bench/run.py

clean:
	rm -rf .venv .cache build dist *.egg-info

# An editable installation has to be of the compatible kind: the other one hides
# twisted/plugins from twistd.
.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable . --config-settings editable_mode=compat
	@touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --quiet --editable '.[test]' --config-settings editable_mode=compat
	@touch $@
