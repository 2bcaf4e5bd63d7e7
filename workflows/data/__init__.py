"""Finds and reads cases, and decides what their labels mean."""
