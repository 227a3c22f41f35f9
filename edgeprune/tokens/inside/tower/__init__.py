"""Methods by which tokens leave between blocks of the vision tower, a file each."""
