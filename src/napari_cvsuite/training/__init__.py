"""One training loop for every network: checkpoints, exact resume, log, early stop."""
