"""Sets of engines that were built for a bundle: their manifests, and which one fits this machine."""
