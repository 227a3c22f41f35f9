"""Power over time: sources, a sampler process, raw traces, and joules as a function of them."""
