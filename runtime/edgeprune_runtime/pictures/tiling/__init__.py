"""Rules by which a picture becomes tiles, one file per rule."""
