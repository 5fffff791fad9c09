"""Policies run over recordings: measured, compared and reported."""
