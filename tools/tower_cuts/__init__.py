"""Cuts in the tower of a pretrained classifier, measured: which plans, the measurement, and the page."""
