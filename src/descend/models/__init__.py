"""Shapes, initial parameters, and predictions."""
