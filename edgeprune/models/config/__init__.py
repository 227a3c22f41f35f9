"""Configuration files of checkpoints, read with types and one-sentence refusals."""
