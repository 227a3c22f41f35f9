"""References of token reduction inside the vision tower and inside the language model."""
