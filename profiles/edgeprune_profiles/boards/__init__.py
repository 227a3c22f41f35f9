"""Boards as data, and what a bundle would do on one: roofline projection, fit, recommendation."""
