"""ONNX: graphs as they are written, traced torch, shared weights."""
