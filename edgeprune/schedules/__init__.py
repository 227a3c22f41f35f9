"""Searched schedules: how many tokens stay at which block, at the tower's output and at which layer, for a price that is given."""
