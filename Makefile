# Every target does its own set-up in .venv.
.PHONY: setup test test-all test-large demo screenshots lint clean

PY := .venv/bin/python
PY5 := .venv-pyqt5/bin/python
# One thread fewer than the cores, and no spinning, so that a busy machine stays usable.
export OMP_WAIT_POLICY := passive
# Tests and training start processes that would compile torch anew each time.
unexport PYTHONDONTWRITEBYTECODE
# A process for each core, four at most, since each loads torch; files of tests stay whole.
PYTEST := -m pytest -n logical --maxprocesses 4 --dist loadfile

setup: .venv/.ready

.venv/.ready: pyproject.toml tools/bootstrap.sh
	bash tools/bootstrap.sh

lint: setup
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	.venv/bin/lint-imports

# The docks are tested on both Qt bindings, in an environment each.
test: lint
	$(PY) $(PYTEST) -m "not slow and not large"
	$(PY5) $(PYTEST) -m "not slow and not large" tests/widgets

test-all: lint
	$(PY) $(PYTEST) -m "not large"
	$(PY5) $(PYTEST) -m "not large" tests/widgets

# A quarter of an hour on one core and 4 GB in the folder for temporary files.
test-large: setup
	$(PY) -m pytest -s -m large tests/large

demo: setup
	.venv/bin/napari-cvsuite demo --out demo-output

screenshots: setup
	$(PY) docs/make_screenshots.py

clean:
	rm -rf .venv .venv-pyqt5 dist build demo-output
