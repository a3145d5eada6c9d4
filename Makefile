# Two commands for a stranger: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests sync very many small files, which takes no time in memory. In a container it is often small or runs no programs.
IN_MEMORY := $(shell [ -z "$$TMPDIR" ] && [ "$$(df -Pk /dev/shm 2>/dev/null | awk 'END {print $$4}')" -gt 6000000 ] 2>/dev/null \
	&& ! grep -q ' /dev/shm .*noexec' /proc/mounts && echo TMPDIR=/dev/shm)
# One thread a process, since there is a process a core; bytecode is kept, since the tests start many processes.
TESTED := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(IN_MEMORY)

.DEFAULT_GOAL := help
FLOOR := 94
.PHONY: help setup demo test coverage check docs format clean

help:
	@echo "make demo    set up, then run everything end to end on the simulated archive (about 10 minutes)"
	@echo "make test    set up, then run the tests in parallel"
	@echo "make coverage  test, and fail if they execute too little of the program"
	@echo "make check   formatting, lint, types, import contract"
	@echo "make docs    the documentation as a site, in site/"
	@echo "make format  let ruff rewrite what it can"
	@echo "make clean   remove the environment, the site and the demo's workspace"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 14)))' \
		|| { echo "convcast needs Python 3.11 to 3.13; try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# Compiled on all cores, where pip takes one; where PYTHONDONTWRITEBYTECODE is set, no later run would do it.
	@# Packages carry a few files for other Pythons, which do not compile here and are never imported.
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib convcast || true
	@touch $@

demo: setup
	$(BIN)/convcast demo

test: setup
	$(TESTED) $(BIN)/python -m pytest -n auto --dist worksteal

# FLOOR is the least percentage of lines that the tests must execute: some 2 below what one run has measured.
coverage: setup
	$(TESTED) $(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=$(FLOOR)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) convcast-demo site
