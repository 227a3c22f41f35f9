"""Questions: chat template, tokenizer, packing with visual tokens, and sampling of what comes back."""
