"""Cuts on a given tower: how many tokens stay where, what cannot be, and what it comes to in words."""
