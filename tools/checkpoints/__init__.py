"""Made checkpoints: LLaVA folders with seeded random weights, in every layout that circulates."""
