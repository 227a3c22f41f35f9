"""TensorRT engines of a bundle's graphs: what a target can take, the graphs lowered for it, and what is built from them."""
