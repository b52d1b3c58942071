VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test test-all check bench install clean

# Installed again whenever what is to be installed has changed.
$(VENV)/installed: pyproject.toml constraints.txt plugins/*/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev,xlsx]" $(addprefix -e ,$(wildcard plugins/*))
	touch $@

install: $(VENV)/installed

demo: install
	$(BIN)/lannunet demo --overwrite

test: install
	$(BIN)/python -m pytest -q

test-all: install
	$(BIN)/python -m pytest -q -m "slow or not slow"

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
