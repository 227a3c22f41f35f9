"""Language models: from a configuration to a DecoderSpec."""
