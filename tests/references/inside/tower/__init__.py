"""References of token reduction inside the vision tower, one method per module, and a tower to run them in.

Every method is a `step(x, q, k, v, heads, keep, ...) -> Step`, see `rows`.
"""
