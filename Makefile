# The two commands: `make demo` and `make test`. They make their own environment in .venv and install into it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test campaign storm check format clean

demo: $(VENV)/demo
	$(BIN)/fanout demo $(ARGS)

# The first needs little but processors; the rest share servers and clusters, and take turns.
IN_PARALLEL := tests/unit tests/storage tests/simulation

test: $(VENV)/dev
ifeq ($(ARGS),)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(IN_PARALLEL)
	$(BIN)/python -m pytest tests $(IN_PARALLEL:%=--ignore %)
else
	$(BIN)/python -m pytest $(ARGS)
endif

campaign: $(VENV)/dev
	$(BIN)/python -m tests.campaign $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m tests.simulation --schedules 100000 --jobs 2)

storm: $(VENV)/dev
	$(BIN)/python -m tests.storm $(ARGS)

# bench-memory, bench-scale; bench-job, bench-overhead, bench-wordcount, bench-store, bench-shape, bench-tiny
bench-memory bench-scale: bench-%: $(VENV)/bench
	$(BIN)/fanout bench $* --out docs/benchmarks $(ARGS)

# These compare with Dask, Ray and Lithops too.
bench-%: $(VENV)/compare
	$(BIN)/fanout bench $* --out docs/benchmarks $(ARGS)

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Debian's python3 comes without ensurepip, and so without a working venv.
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); .ci/install venv && $(PYTHON) -m venv $(VENV); }

# A file for each set of packages, so that a second `make` installs nothing.
$(VENV)/demo: $(BIN)/pip pyproject.toml
	$(BIN)/pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/bench: $(BIN)/pip pyproject.toml
	$(BIN)/pip install --quiet --editable '.[bench]'
	touch $@ $(VENV)/demo

$(VENV)/compare: $(BIN)/pip pyproject.toml
	$(BIN)/pip install --quiet --editable '.[compare]'
	touch $@ $(VENV)/demo $(VENV)/bench

$(VENV)/dev: $(BIN)/pip pyproject.toml
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/demo $(VENV)/bench
