"""Searching schedules: what a model costs and how far its answers move under one, and the run that looks for the best."""
