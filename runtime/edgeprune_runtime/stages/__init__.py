"""Stages of the language model: how many rows each has, and the buffers and graphs through which rows go from one to the next."""
