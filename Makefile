# What one does with a checkout:
#   make demo    open the app in the browser
#   make test    check the style and run all tests
#   make style   check the style, the types, and that nothing needs a newer Python than promised
# Each installs what it needs into .venv first, once. PYTHON is the interpreter that .venv is made with.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test style

demo: $(VENV)/.app-installed
	$(BIN)/python app.py --inbrowser

test: style
	$(BIN)/python tests/browser.py
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

style: $(VENV)/.tools-installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/vermin app.py bivdiff tabs benchmarks tests
	$(BIN)/mypy

$(VENV)/.app-installed: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.tools-installed: requirements-dev.txt $(VENV)/.app-installed
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed. Name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
