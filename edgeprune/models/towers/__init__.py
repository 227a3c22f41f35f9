"""Vision towers: from a configuration to a TowerSpec."""
