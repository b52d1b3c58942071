VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test test-all test-cases check docs bench dist install clean

# Installed again whenever what is to be installed has changed.
$(VENV)/installed: pyproject.toml constraints.txt requirements.txt plugins/*/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -r requirements.txt
	touch $@

install: $(VENV)/installed

demo: install
	$(BIN)/lannunet demo --overwrite

# Two processes of one thread each: a file's tests share fixtures, so they stay together.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

test: install
	$(PYTEST)

test-all: install
	$(PYTEST) -m "slow or not slow"

test-cases: install
	$(PYTEST) -m case

check: install
	$(BIN)/python .ci/words.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mkdocs build -q

# The site, in site/: a dead link or a page outside the navigation is an error.
docs: install
	$(BIN)/python -m mkdocs build -q

bench: install
	$(BIN)/python -m benchmarks

# Wheels and source distributions of everything, as they are published.
dist: install
	rm -rf dist
	set -e; for folder in . plugins/*/; do $(BIN)/python -m build -q --outdir dist $$folder; done
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf $(VENV) runs dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
