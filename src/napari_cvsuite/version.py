"""The version, apart from the package's own functions, which lean on every room."""

__all__ = ["__version__"]

__version__ = "0.1.0"
