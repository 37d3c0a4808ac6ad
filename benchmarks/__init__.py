"""Measurements of speed, against what people use today. Not installed; run from the repository's root."""
