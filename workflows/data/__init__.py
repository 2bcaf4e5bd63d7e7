"""Finds, reads and checks cases and their labels, and splits them for training."""
