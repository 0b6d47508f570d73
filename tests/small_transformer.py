"""A small encoder–decoder, four pairs for it, and torch's Transformer with the same weights: for several test files."""

import math

import pytest
import torch
from torch import nn

from minillm.neural.pairs import PairBatch
from minillm.transformer.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

V, D, F_, H, N = 13, 12, 20, 3, 2
BEGIN, END = 1, 2
PAIRS = [([5, 6, 7, 8, 9], [3, 4, 5]), ([8, 4], [3, 4, 12, 11, 6, 6]), ([10], [7]), ([3, 4, 5, 11], [12, 3])]
BOTH = pytest.mark.parametrize("norm_first", [True, False], ids=["pre", "post"])


def make(**changes):
    sizes = {"vocabulary": V, "context": 16, "n_layer": N, "n_head": H, "d_model": D, "d_hidden": F_}
    model = EncoderDecoder(EncoderDecoderConfig(**{**sizes, **changes})).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # biases and gains of their own, so that none can be forgotten or swapped
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def batch(pairs=PAIRS, pad=0):
    return PairBatch.of(pairs, begin=BEGIN, end=END, pad=pad)


def copy_attention(theirs, ours):
    theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())


@torch.no_grad()
def torch_twin(model):
    """torch's Transformer with the weights of ours. Its post-norm would end in one more norm: the paper has none."""
    sizes = {"d_model": D, "nhead": H, "dim_feedforward": F_, "dropout": 0.0, "batch_first": True}
    first = {"norm_first": model.config.norm_first}
    last = lambda: nn.LayerNorm(D) if model.config.norm_first else None
    twin = nn.Transformer(
        d_model=D,
        nhead=H,
        batch_first=True,
        custom_encoder=nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**sizes, **first), N, last(), enable_nested_tensor=False
        ),
        custom_decoder=nn.TransformerDecoder(nn.TransformerDecoderLayer(**sizes, **first), N, last()),
    ).double()
    for theirs, ours in zip(
        [*twin.encoder.layers, *twin.decoder.layers], [*model.encoder, *model.decoder], strict=True
    ):
        copy_attention(theirs.self_attn, ours.attention)
        theirs.linear1.load_state_dict(ours.mlp.up.state_dict())
        theirs.linear2.load_state_dict(ours.mlp.down.state_dict())
        norms = [ours.attention_norm, ours.mlp_norm]
        if ours.cross_attention is not None:
            copy_attention(theirs.multihead_attn, ours.cross_attention)
            norms.insert(1, ours.cross_norm)
        for number, norm in enumerate(norms, start=1):
            getattr(theirs, f"norm{number}").load_state_dict(norm.state_dict())
    if model.config.norm_first:
        twin.encoder.norm.load_state_dict(model.source_norm.state_dict())
        twin.decoder.norm.load_state_dict(model.target_norm.state_dict())
    return twin


def positions(t):
    """Section 3.5, number by number."""
    rows = [[(math.cos if i % 2 else math.sin)(p / 10000 ** ((i - i % 2) / D)) for i in range(D)] for p in range(t)]
    return torch.tensor(rows, dtype=torch.float32).double()
