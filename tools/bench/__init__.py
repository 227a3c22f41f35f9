"""The project's benchmarks: `python tools/bench --help`."""
