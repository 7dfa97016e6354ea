# What one does with a checkout:
#   make demo    open the app in the browser
#   make test    check the style and run all tests
#   make style   check the style, the types, and that nothing needs a newer Python than promised
#   make constraints   write constraints.txt anew: the versions that .venv has, for every promised Python and system
# Each installs what it needs into .venv first, once, with uv where it is on PATH. PYTHON is the interpreter that .venv is
# made with.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(if $(shell command -v uv),uv pip install --python $(BIN)/python,$(BIN)/python -m pip install)
export UV_CUSTOM_COMPILE_COMMAND := make constraints

.PHONY: demo test style constraints

demo: $(VENV)/.app-installed
	$(BIN)/python app.py --inbrowser

test: style
	$(BIN)/python tests/browser.py
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

style: $(VENV)/.tools-installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/vermin app.py bivdiff tabs benchmarks tests
	$(BIN)/mypy

# What .venv has is preferred; where a promised Python or system needs another version, uv finds the newest.
constraints: $(VENV)/.tools-installed
	$(BIN)/python -m pip freeze > constraints.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-annotate --output-file constraints.txt \
		requirements.txt requirements-dev.txt

$(VENV)/.app-installed: requirements.txt constraints.txt | $(BIN)/python
	$(INSTALL) --quiet --requirement requirements.txt --constraint constraints.txt
	touch $@

$(VENV)/.tools-installed: requirements-dev.txt requirements-ray.txt $(VENV)/.app-installed
	$(INSTALL) --quiet --requirement requirements-dev.txt --constraint constraints.txt
	touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed. Name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
