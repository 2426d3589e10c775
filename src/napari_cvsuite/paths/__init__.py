"""Paths: a vision transformer as a sum of paths, made visible and editable."""
