"""Depth that keeps working where its training data never went."""
