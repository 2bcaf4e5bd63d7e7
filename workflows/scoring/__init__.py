"""Scores of one case and statistics over many, without knowing who predicted."""
