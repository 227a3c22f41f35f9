"""Make sealed bundles: a checkpoint and a token plan become static ONNX graphs, held against transformers before sealing."""
