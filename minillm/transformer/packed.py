"""Packed weights: the same decoder, its matrices laid out for reading one token at a time on a CPU.

    y = W x + b       one token: each number of W is read from memory once and used once, so bandwidth is the limit

The copy shares no layout with the original, but all its small parameters. Each large matrix is handed to oneDNN, whose
kernel for one row of x reads memory at nearly full speed; query, key and value become one matrix.

Paper:   Williams, Waterman and Patterson 2009, "Roofline", CACM 52(4): what limits a loop, arithmetic or memory.
Names:   `pack` makes the copy; `PackedLinear` is `nn.Linear` with the weight in oneDNN's keeping.
Differs: nothing is rounded: float32 stays float32, and the plain twin is the decoder itself.
Next:    minillm/transformer/speculative.py
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.attention.cache import KVCache
from minillm.attention.dot_product import attend, attend_fused
from minillm.attention.multihead import MultiHeadAttention
from minillm.attention.positions import RoPE, Rotation
from minillm.transformer.decoder import Decoder

SMALLEST_MATRIX = 2**18  # numbers; smaller matrices stay in the processor's cache, where torch's own kernel is faster
FEWEST_TOKENS = 8  # packing copies the weights once: about as long as two tokens take


def is_worth_packing(model: Decoder, max_new_tokens: int) -> bool:
    """Whether `pack` would make so many tokens come sooner: on a CPU with oneDNN, in float32, with large matrices."""
    weight, known = model.embedding.weight, torch.backends.mkldnn.is_available() and _is_plain(model)
    fits = known and weight.device.type == "cpu" and weight.dtype == torch.float32 and not is_packed(model)
    return fits and max_new_tokens >= FEWEST_TOKENS and model.config.d_model**2 >= SMALLEST_MATRIX


def is_packed(model: Decoder) -> bool:
    """Whether this is such a copy already."""
    return isinstance(model.score, PackedLinear)


def _is_plain(model: Decoder) -> bool:
    """Whether every matrix does no more than its weight says: not so with LoRA or a prefix on it."""
    kinds = (nn.Linear, MultiHeadAttention)
    return all(type(module) in kinds for module in model.modules() if isinstance(module, kinds))


def pack(model: Decoder) -> Decoder:
    """A copy of a decoder for inference on a CPU, with packed matrices. It does not follow when the model learns.

    >>> from minillm.transformer.decoder import gpt2
    >>> model = Decoder(gpt2(vocabulary=9, context=4, n_layer=1, n_head=2, d_model=4))
    >>> with torch.inference_mode():
    ...     torch.allclose(pack(model)(torch.tensor([[1, 2]])), model(torch.tensor([[1, 2]])))
    True
    """
    if not _is_plain(model):
        raise ValueError("model has layers with adapters on them, which packing would leave out; merge them first "
                         "(minillm.adaptation.lora.merge_lora, remove_lora)")  # fmt: skip
    packed = copy.deepcopy(model, {id(p): p for p in model.parameters()}).eval()
    for module in list(packed.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, MultiHeadAttention):
                setattr(module, name, PackedAttention(child))
            elif isinstance(child, nn.Linear):
                setattr(module, name, PackedLinear(child.weight, child.bias))
    return packed


class PackedLinear(nn.Module):
    """W x + b for inference: (…, d) in, (…, f) out."""

    def __init__(self, weight_fd: Tensor, bias_f: Tensor | None) -> None:
        super().__init__()
        self.weight = weight_fd.detach().to_mkldnn()
        self.bias = None if bias_f is None else bias_f.detach().to_mkldnn()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to_mkldnn(), self.weight, self.bias).to_dense()


class PackedAttention(MultiHeadAttention):
    """Self-attention whose queries, keys and values come from one product. Same arguments, same numbers."""

    def __init__(self, layer: MultiHeadAttention) -> None:
        nn.Module.__init__(self)
        self.config, self.query_norm, self.key_norm = layer.config, layer.query_norm, layer.key_norm
        maps = (layer.query, layer.key, layer.value)
        bias_f = torch.cat([m.bias for m in maps]) if layer.config.bias else None
        self.query_key_value = PackedLinear(torch.cat([m.weight for m in maps]), bias_f)
        self.out = PackedLinear(layer.out.weight, layer.out.bias)

    def forward(
        self,
        x_btd: Tensor,
        source_bsd: Tensor | None = None,
        may_look: Tensor | None = None,
        bias: Tensor | None = None,
        rope: RoPE | Rotation | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        fused: bool = True,
        causal: bool = False,
    ) -> Tensor:
        h, g = self.config.n_head, self.config.kv_heads
        all_heads = self._heads(self.query_key_value(x_btd))
        q_bhtk, key, value = all_heads.split((h, g, g), dim=1)
        q_bhtk = q_bhtk if self.query_norm is None else self.query_norm(q_bhtk)
        key = key if self.key_norm is None else self.key_norm(key)
        if rope is not None:
            if isinstance(rope, RoPE):
                raise ValueError(
                    "rope is a RoPE; packed layers take the rotation that is made once: rope.at(positions)"
                )
            q_bhtk, key = rope.rotate(q_bhtk), rope.rotate(key)
        key, value = (key, value) if cache is None else cache.append(key, value)
        mixed_bhtk = (attend_fused if fused else attend)(q_bhtk, key, value, may_look, bias, self.config.scale, causal)
        return self.out(mixed_bhtk.transpose(1, 2).flatten(2))
