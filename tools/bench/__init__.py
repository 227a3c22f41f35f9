"""The project's benchmarks, one module each; `python tools/bench.py --help` runs them."""
