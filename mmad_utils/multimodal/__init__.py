"""Detectors that take several modalities, paired or not."""
