"""``python -m napari_cvsuite``: the command line."""

from napari_cvsuite.cli import main

main()
