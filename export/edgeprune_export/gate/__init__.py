"""The parity gate: graphs, run as the runtime runs them, against transformers' own modules."""
