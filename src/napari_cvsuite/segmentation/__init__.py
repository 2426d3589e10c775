"""Segmentation with QTSeg: prediction, training, metrics."""
