"""Whole jobs: export a model or a classifier, calibrate a method, forecast a recipe."""
