"""Processes, ranks, signals, memory, seeds."""
