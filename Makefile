# The virtual environment is made from the lock wherever it is missing or out of date, so that
# every target works on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from-lock
CORES ?= all
DEMO := results/demo

.PHONY: demo test test-slow test-avx2 test-all check audit environment generate clean

demo: $(STAMP)
	$(BIN)/snakemake --cores $(CORES) --configfile config/demo.yaml
	@echo "The demo is finished. Open $(DEMO)/report.html"

# What a change is tried with: minutes.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -q -m "not slow"

# Kills, servers, disks, clusters, fuzzing, whole repeated runs.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -q -m slow

# The numerical tests with the instructions of older processors, whose last digits differ.
test-avx2: $(STAMP)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
	  $(BIN)/python -m pytest -n 2 --dist loadgroup -q -m "not slow" $(addprefix tests/,models training gpp embed evaluate)

test-all: test test-slow test-avx2

check: $(STAMP) audit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check --compact-diff Snakefile workflow
	$(BIN)/mypy

# Fails where a pinned version has a known vulnerability; without a network it says that it audited nothing.
audit: $(STAMP)
	$(BIN)/python tests/audit.py

environment: $(STAMP)

# Defaults file, schema and table of keys, from the config blocks.
generate: $(STAMP)
	$(BIN)/python -m pipeline_lib.config.generate

$(STAMP): envs/requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) .snakemake .mypy_cache .ruff_cache .pytest_cache .hypothesis
