"""Rows that leave inside the language model, on both reference models: `python -m tools.inside_language --help`."""
