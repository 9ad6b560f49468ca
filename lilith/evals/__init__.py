"""Measurements of a model, one file each."""
