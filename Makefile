# Every target makes or refreshes .venv by itself. Needs Python 3.11 or newer, and make.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin

.PHONY: demo test test-slow lint bench docs clean

.venv/.ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "slimnet needs Python 3.11 or newer: none was found."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: .venv/.ready
	$(BIN)/python benchmarks/demo.py

test: .venv/.ready lint
	$(BIN)/python -m pytest -n auto

test-slow: .venv/.ready
	$(BIN)/python -m pytest -m slow

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.ready
	$(BIN)/python benchmarks/fsdp_overhead.py

docs: .venv/.ready
	$(BIN)/python benchmarks/tables.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf .venv build dist runs site
