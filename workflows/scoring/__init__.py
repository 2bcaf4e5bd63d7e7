"""Scores of a case and statistics of many. Only `pixel_sums` imports torch: processes that score start at once."""
