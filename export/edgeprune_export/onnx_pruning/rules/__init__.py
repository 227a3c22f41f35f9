"""How channels travel through operators: one rule per operator."""
