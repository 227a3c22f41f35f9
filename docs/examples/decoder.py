"""A language model of your own: Seed-OSS, a Llama with biases on queries, keys and values and a head width of its own.

    from edgeprune.models.decoders import DECODERS
    DECODERS.add(SEED_OSS.name, SEED_OSS)

or an entry point in the group `edgeprune.decoders`. The numbers are what its configuration class in transformers says where config.json
is silent; `traits` gives fields of DecoderSpec that differ from a plain Llama's.
"""

from edgeprune.models.decoders.base import DecoderKind


def traits(text):
    return {
        "attention_bias": text.flag("attention_bias", True),
        "output_bias": text.flag("attention_out_bias", False),
        "mlp_bias": text.flag("mlp_bias", False),
    }


SEED_OSS = DecoderKind("seed_oss", traits, 155136, 27648, 8, 524288, 0, 2, head_dim=128)
