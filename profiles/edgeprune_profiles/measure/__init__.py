"""Measure a bundle: stages, memory in a process of its own, power and soak."""
