"""Which visual tokens to keep: score, weigh, select, combine, and the methods composed of them."""
