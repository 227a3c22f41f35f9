"""ONNX: graphs as they are written, traced and read.

Writing       graph (one static graph by hand), nodes, weights (the file that graphs share), trace (torch code into nodes)
Reading       shapes (types of all values, as an `onnx_ir` model), folding (what also follows from weights), static (integers only)
Rewriting     walk (nodes and bodies as they are stored), extract (the part of a graph that makes some values)
"""
