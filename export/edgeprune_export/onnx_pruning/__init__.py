"""Structured pruning of any static ONNX graph of a plain vision model: channels, MLP units and attention heads leave for good."""
