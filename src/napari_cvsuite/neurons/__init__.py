"""Neurons: what convolutional networks detect, on the user's own images."""
