"""Encoders of one modality to numeric features: images, tables, columns of any type, texts and series."""
