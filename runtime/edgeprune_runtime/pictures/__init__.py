"""Pictures: loaded, placed on tiles, packed as visual tokens, drawn with the tokens that were kept."""
