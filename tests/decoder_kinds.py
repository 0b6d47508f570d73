"""Every kind of decoder that the tests go through, small, with every axis of another size."""

from dataclasses import replace

import torch

from minillm.attention.positions import RopeScaling
from minillm.transformer.decoder import Decoder, DecoderConfig, gpt2, llama

B, T, V, CONTEXT = 2, 9, 13, 24
GPT2 = gpt2(vocabulary=V, context=CONTEXT, n_layer=3, n_head=4, d_model=24)
LLAMA = llama(vocabulary=V, context=CONTEXT, n_layer=3, n_head=4, d_model=24, n_kv_head=2)
KINDS: dict[str, DecoderConfig] = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "mqa": replace(LLAMA, n_kv_head=1, head_width=10, tied=True),
    "alibi": replace(GPT2, positions="alibi", mlp="relu2", n_kv_head=2),
    "sinusoidal": replace(GPT2, positions="sinusoidal", tied=False, bias=False),
    "no positions": replace(GPT2, positions="none", mlp="gelu", norm="rms"),
    "window": replace(LLAMA, window=4, n_kv_head=None),
    "alibi in a window": replace(GPT2, positions="alibi", window=3),
    "smear": replace(
        GPT2, positions="alibi", norm="rms", mlp="relu2", bias=False, tied=False, smear=True, zero_out=True
    ),
    "llama 3": replace(LLAMA, qk_norm=True, rope_scaling=RopeScaling(factor=4.0, original_context=8), d_hidden=40),
}


def lively(config):
    """A model whose parameters are large enough that every part of it matters."""
    model = Decoder(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model


def some_tokens(*shape, seed=0):
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(seed))
