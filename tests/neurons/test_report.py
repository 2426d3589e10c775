"""The report on a pair of classifiers: tiny networks with random weights, on made images."""

from __future__ import annotations

CLASSES = ("bird", "cat & <b>dog</b>", "truck")
