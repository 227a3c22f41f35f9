"""Which elements must leave together: classes of (value, axis), merged over the whole graph."""
