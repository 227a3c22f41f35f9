"""What to keep of a vision-language model: budgets, methods, checkpoints, evaluation, and the command line."""
