"""The graphs of a bundle: tower, select with its connector, decoder, classifier."""
