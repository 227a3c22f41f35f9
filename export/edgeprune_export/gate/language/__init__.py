"""The half of the gate that holds the language model against transformers, and rows that leave inside it."""
