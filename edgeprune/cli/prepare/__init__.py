"""Commands that make something: prune, export, calibrate, build, forecast."""
