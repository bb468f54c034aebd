# Trough's commands for a person. `make run` and `make test` need Python 3.11, its venv
# module and nothing else; the tests of HDFS use Java and Maven where these are there.

PYTHON ?= python3
TROUGH_HOME ?= ./var
BIN := .venv/bin

.PHONY: screenshots deb debtest fuzz search explore kills replicated run shell check lowest test cover lint docs man bench checker clean

# Ctrl-C is the way to stop it, and no error that make should complain about.
run: .venv/installed
	@trap : INT; $(BIN)/twistd --nodaemon --pidfile= trough --home "$(TROUGH_HOME)" --example \
	    || [ $$? -eq 130 ]

shell: .venv/installed
	@$(BIN)/trough-shell -u "sqlite:///$$(realpath "$(TROUGH_HOME)")/registry.db"

# Unit tests touch nothing that others could want, so they run side by side.
test: .venv/tested
	$(BIN)/python tests/support/fetch_hadoop.py
	$(BIN)/python -m pytest -q -n auto tests/unit
	$(BIN)/python -m pytest tests/component tests/cluster tests/docs

# The unit tests with the oldest packages that setup.cfg allows, in an environment of their own.
lowest: .venv/installed
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --python-version 3.11 --resolution lowest-direct --no-header \
	    setup.cfg --extra test --output-file build/lowest.txt
	$(PYTHON) -m venv build/lowest
	$(BIN)/uv pip install --quiet --python build/lowest/bin/python -r build/lowest.txt
	build/lowest/bin/python -m pytest -q -n auto -m "not slow" tests/unit

# Lint, types and the tests that need no process, no socket and no reactor: under a minute.
check: .venv/tested lint
	$(BIN)/python -m pytest -q -n auto -m "not slow" tests/unit tests/docs/test_layout.py

# Line and branch coverage of all tests in this process; executors and servers that tests
# start are processes of their own and not counted.
cover: .venv/tested
	$(BIN)/python tests/support/fetch_hadoop.py
	$(BIN)/python -m pytest --cov=trough --cov-branch --cov-report=term-missing:skip-covered

lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documents as a site in build/site. Every warning is an error.
docs: .venv/documented man
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/site
	@echo "open build/site/index.html"

# The pictures of README and docs/tour.rst, by Chromium.
screenshots: .venv/tested
	PYTHONPATH=tests/support $(BIN)/python tests/support/screenshots.py

# Random queries, for an hour: does GATHER answer one otherwise than SQLite?
search: .venv/tested
	PYTHONPATH=tests/support $(BIN)/python tests/support/gather_search.py 3600

# Random orders of events of a replicated segment, for ten minutes.
explore: .venv/tested
	PYTHONPATH=tests/support $(BIN)/python tests/support/replication_explorer.py 600

# Processes that write and follow a log, killed at any moment, for ten minutes.
kills: .venv/tested
	PYTHONPATH=tests/support $(BIN)/python tests/support/killed_logs.py 600

# Links are cut, disks fill up and old images come back; then the holder of a write lock is killed
# and its disk removed, a hundred times on each engine: is each acknowledged row there?
replicated: .venv/tested
	TROUGH_REPLICATION_FAULTS=1 $(BIN)/python -m pytest -q -s tests/cluster/test_replicated_faults.py
	TROUGH_REPLICATION_RUNS=100 TROUGH_REPLICATION_CLIENTS=64 $(BIN)/python -m pytest -q -s tests/cluster/test_replicated_process.py

# Hostile bytes for parsers, frames, files and rows, for an hour: does anything break?
fuzz: .venv/fuzzed
	PYTHONPATH=tests/support $(BIN)/python tests/support/fuzz.py 3600

# Manual pages of the tools, in build/man.
man: .venv/documented
	$(BIN)/python docs/manpages.py build/man

# A package for this release of Debian, in dist/.
deb: man
	packaging/build_deb.sh

# The package in an empty Debian, as root: debootstrap fetches that.
debtest: .venv/tested deb
	TROUGH_DEBOOTSTRAP=1 $(BIN)/python -m pytest -q tests/cluster/test_debian_package.py

bench: .venv/tested
	$(BIN)/python bench/run.py
	$(BIN)/python bench/bench_neighbours.py
	$(BIN)/python bench/bench_gather.py
	$(BIN)/python bench/bench_replication.py

# Half an hour of servers that are killed, frozen, cut off and drained, damaged copies, new and
# deleted segments: is every answer the truth? TROUGH_COMPLETE_PAIR=rethinkdb+hdfs asks other
# engines.
checker: .venv/tested
	TROUGH_COMPLETE_SECONDS=1800 $(BIN)/python -m pytest -q -s tests/cluster/test_complete_chaos.py

clean:
	rm -rf .venv .cache build dist *.egg-info

# Every package that make installs has its version and its hashes in requirements/. An editable
# installation has to be of the compatible kind: the other one hides twisted/plugins from twistd.
.venv/installed: setup.cfg pyproject.toml requirements/run.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements/run.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable . \
	    --config-settings editable_mode=compat
	@touch $@

.venv/tested: .venv/installed requirements/test.txt
	$(BIN)/pip install --quiet --require-hashes -r requirements/test.txt
	@touch $@

.venv/fuzzed: .venv/tested requirements/fuzz.txt
	$(BIN)/pip install --quiet --require-hashes -r requirements/fuzz.txt
	@touch $@

.venv/documented: .venv/installed requirements/docs.txt
	$(BIN)/pip install --quiet --require-hashes -r requirements/docs.txt
	@touch $@

# Resolve setup.cfg again, for each of the three environments.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --upgrade setup.cfg requirements/build.in

lock: .venv/installed
	$(BIN)/pip install --quiet uv
	$(LOCK) --output-file requirements/run.txt
	$(LOCK) --extra test --output-file requirements/test.txt
	$(LOCK) --extra docs --output-file requirements/docs.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-header --upgrade requirements/fuzz.in --output-file requirements/fuzz.txt
