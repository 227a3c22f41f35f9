"""Methods by which rows leave before layers of the language model, a file each."""
