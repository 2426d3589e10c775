"""Networks, their weights, and the store of loaded models. Needs torch; no Qt, no napari."""
