"""What a token-reduction method is, which fit a model, and how they are listed."""
