"""Independent, slow and readable references used by the tests only."""
