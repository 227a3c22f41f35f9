"""Plain image classifiers: Hugging Face folders and timm files."""
