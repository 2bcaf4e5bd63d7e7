"""Configurations, overrides, checkpoints and the settings that belong to them."""
