"""Detectors of anomalies in tables or images, one family per file."""
