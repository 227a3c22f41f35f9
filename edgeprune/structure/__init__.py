"""Structured pruning: which head groups, MLP channels and blocks stay, and the smaller module that follows. Rules: docs/structure.md."""
