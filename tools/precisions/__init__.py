"""What it costs to store weights in 8 and in 4 bits: `python -m tools.precisions --help`."""
