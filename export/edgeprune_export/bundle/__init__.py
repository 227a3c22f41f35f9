"""What a bundle is made with: options, counts, memory, progress, and the seal."""
