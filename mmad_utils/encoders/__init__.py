"""Encoders turn one modality into numbers: images, tables, columns of any kind, texts and series."""
