"""Tensors of a checkpoint: names, shapes, files, and reading one at a time."""
