"""Run the command line as ``python -m napari_cvsuite.cli``."""

from __future__ import annotations

from napari_cvsuite.cli import main

if __name__ == "__main__":
    main()
