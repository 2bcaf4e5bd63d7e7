"""Cached slices, batches, stored cases, and the memory they take."""
