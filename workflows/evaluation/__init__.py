"""Scores of a checkpoint or of label maps: tables, figures, tuning and calibration."""
