"""Commands that run and measure: run, eval, profile, compare, report."""
