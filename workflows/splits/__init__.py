"""Divides cases by patient into sections for training, validation and testing."""
