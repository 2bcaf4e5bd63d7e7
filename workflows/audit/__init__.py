"""Checks of a data folder before anything is trained on it."""
