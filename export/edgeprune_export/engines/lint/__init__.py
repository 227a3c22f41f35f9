"""What a builder will refuse, found before it is called."""
