# Every target does its own set-up in .venv.
.PHONY: setup test test-all demo lint clean

PY := .venv/bin/python
# One thread fewer than the cores, and no spinning, so that a busy machine stays usable.
export OMP_WAIT_POLICY := passive

setup: .venv/.ready

.venv/.ready: pyproject.toml tools/bootstrap.sh
	bash tools/bootstrap.sh

lint: setup
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	.venv/bin/lint-imports

test: lint
	$(PY) -m pytest -m "not slow"

test-all: lint
	$(PY) -m pytest

demo: setup
	.venv/bin/napari-cvsuite demo --out demo-output

clean:
	rm -rf .venv dist build demo-output
