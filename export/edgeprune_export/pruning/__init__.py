"""Structured pruning of checkpoints: calibration data, the choice, compensation, recovery, and the smaller checkpoint."""
