"""How a graph is lowered: one rule per operator and dialect."""
