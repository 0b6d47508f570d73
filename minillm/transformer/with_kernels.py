"""A switch: a decoder whose norms, turns, attention and loss are the Triton kernels of `minillm/kernels`.

    use_kernels(model)           from now on by kernels, where they apply      use_kernels(model, on=False)    as before

Off unless asked for. torch's own attention kernel stays the default, and `torch.compile` fuses norms and turns by
itself; these kernels are for reading, for changing, and for the head of a large vocabulary, whose logits
`linear_cross_entropy` never holds as a whole. Parameters and numbers stay as they are, but for rounding.

Paper:   Hsu et al. 2024, "Liger Kernel", §3, arXiv:2410.10989, which exchanges the parts of a model in the same way.
Names:   each part has an attribute `kernel`, None for torch's own operations.
Differs: an attention with a mask, a bias or dropout, and one of a single query, stay with torch.
Next:    minillm/transformer/costs.py
"""

from typing import Any

from torch import Tensor

from minillm.attention.dot_product import attend_fused
from minillm.attention.multihead import MultiHeadAttention
from minillm.attention.positions import RoPE
from minillm.core.runtime import Choice
from minillm.transformer.block import RMSNorm
from minillm.transformer.decoder import Decoder


def use_kernels(model: Decoder, on: bool = True) -> dict[str, Choice]:
    """Switch a decoder to the kernels, or back, and say for each whether it runs, and why.

    The model must be where it will run: on a GPU, or anywhere with TRITON_INTERPRET=1. RuntimeError if it cannot.

    >>> from minillm.transformer.decoder import gpt2
    >>> model = Decoder(gpt2(vocabulary=9, context=4, n_layer=1, n_head=2, d_model=4))
    >>> print(use_kernels(model, on=False)["flash_attention"])
    no (switched off)
    """
    attention = linear_cross_entropy = rms_norm = rope = None
    if on:  # Triton is imported here, and not before
        from minillm.kernels.cross_entropy import linear_cross_entropy
        from minillm.kernels.launch import check
        from minillm.kernels.rms_norm import rms_norm
        from minillm.kernels.rope import rope

        check("the model without use_kernels", **{"the model": next(model.parameters())})
        attention = _attention
    model.kernel = linear_cross_entropy
    norms = 0
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            module.kernel = attention
        elif isinstance(module, RoPE):
            module.kernel = rope
        elif isinstance(module, RMSNorm):
            module.kernel, norms = rms_norm, norms + 1
    if not on:
        return {name: Choice(value="no", why="switched off") for name in _NAMES}
    plain = {
        "rms_norm": None if norms else "the norms of this model are LayerNorm",
        "rope": None if model.rope is not None else f"positions={model.config.positions!r}",
        "flash_attention": _reason_against(model),
    }
    return {
        name: Choice(value="no", why=why) if (why := plain.get(name)) else Choice(value="yes", why="you asked for it")
        for name in _NAMES
    }


_NAMES = ("rms_norm", "rope", "flash_attention", "cross_entropy")


def _reason_against(model: Decoder) -> str | None:
    """Why the attention stays with torch, in training at least."""
    config = model.config
    if not model.fused:
        return "fused=False: the attention is written out"
    if config.positions == "alibi":
        return "ALiBi adds to the scores"
    if config.window is not None:
        return f"window={config.window} masks the scores once a row is longer"
    return "dropout acts on the weights" if config.dropout else None


def _attention(
    q_bhtk: Tensor,
    k_bgsk: Tensor,
    v_bgsk: Tensor,
    may_look: Any = None,
    bias: Any = None,
    scale: float | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """`attend_fused` by our kernel where that can be."""
    if may_look is not None or bias is not None or dropout or q_bhtk.shape[2] == 1:
        return attend_fused(q_bhtk, k_bgsk, v_bgsk, may_look, bias, scale, causal, dropout)
    from minillm.kernels.flash_attention import flash_attention

    return flash_attention(q_bhtk, k_bgsk, v_bgsk, causal, scale)
