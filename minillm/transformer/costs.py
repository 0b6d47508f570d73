"""What a decoder costs, from its configuration alone: parameters, floating-point operations, memory of the cache.

    one token, once through, n tokens before it:   2 · (numbers in the matrices) + 4 · layers · (n + 1) · heads · k

A product of (t, d) and (d, f) is t·d·f multiplications and as many additions. Training costs three times the forward
pass: the gradient needs two products for each of its products. Sums, norms and the softmax are left out, as usual.
With a mixture of experts only the matrices that a token passes count for operations: the router, the experts that it
chose, the shared ones.

Paper:   Kaplan et al. 2020, "Scaling Laws for Neural Language Models", §2.1 and table 1, arXiv:2001.08361.
Names:   our d, h·k and f are the paper's d_model, d_attn and d_ff; `past` is what the cache holds.
Differs: the logits and the full square of scores are counted (a causal kernel may skip half of that), so that the
         count is what torch's FlopCounterMode finds; the paper leaves both embeddings out.
Next:    minillm/transformer/generate.py
"""

from minillm.transformer.decoder import DecoderConfig


def parameters(config: DecoderConfig, active: bool = False) -> dict[str, int]:
    """How many numbers training may change, by part; the sum is the model's `n_parameters`.

    `active`: only those that one token passes, which leaves out the experts that it did not choose.

    >>> from minillm.transformer.decoder import gpt2
    >>> sum(parameters(gpt2()).values())  # "the 124 million parameter GPT-2"
    124439808
    """
    d, v, attention = config.d_model, config.vocabulary, config.block.attention
    inside, shared = attention.n_head * attention.width, attention.kv_heads * attention.width
    heads = 2 * d * inside + 2 * d * shared
    if config.bias:
        heads += inside + 2 * shared + d
    if config.qk_norm:
        heads += 2 * attention.width
    norm = 2 * d if config.norm == "layer" and config.bias else d
    return {
        "embedding": v * d + (d if config.smear else 0),
        "positions": config.context * d if config.positions == "learned" else 0,
        "attention": config.n_layer * heads,
        "mlp": config.n_layer * sum(_mlp(config, active)),
        "norms": (2 * config.n_layer + 1) * norm,
        "score": 0 if config.tied else v * d,
    }


def forward_flops(config: DecoderConfig, t: int, past: int = 0, batch: int = 1, scored: int | None = None) -> int:
    """Floating-point operations to read `t` tokens of each row after `past` others in the cache.

    `scored` is at how many of the t places logits are made (None: all of them; a prompt needs one).

    >>> from minillm.transformer.decoder import gpt2
    >>> round(forward_flops(gpt2(), t=1) / 124e6, 1)  # about two for each parameter
    2.0
    """
    if t < 1 or past < 0 or batch < 1:
        raise ValueError(f"t={t}, past={past}, batch={batch}: t and batch are at least 1, past at least 0; t=1 works")
    attention, d = config.block.attention, config.d_model
    inside, shared = attention.n_head * attention.width, attention.kv_heads * attention.width
    matrices = 2 * d * inside + 2 * d * shared + _mlp(config, active=True)[0]
    scores = 2 * (past + t) * inside  # for one token: its query with every key, its weights with every value
    logits = (t if scored is None else scored) * d * config.vocabulary
    return 2 * batch * (t * config.n_layer * (matrices + scores) + logits)


def training_flops(config: DecoderConfig, t: int, batch: int = 1) -> int:
    """Floating-point operations of one training step: forward, and twice as much backward.

    >>> from minillm.transformer.decoder import gpt2
    >>> round(training_flops(gpt2(), t=1024) / 1024 / 124e6, 1)  # a little above the rule of thumb, six a parameter
    6.9
    """
    return 3 * forward_flops(config, t, batch=batch)


def cache_bytes(config: DecoderConfig, tokens: int, batch: int = 1, bytes_per_number: int = 4) -> int:
    """Memory for the keys and values of `tokens` tokens of each row.

    >>> from minillm.transformer.decoder import llama
    >>> sizes = dict(vocabulary=99, context=64, n_layer=2, n_head=8, d_model=32)
    >>> cache_bytes(llama(**sizes), 64) // cache_bytes(llama(**sizes, n_kv_head=2), 64)
    4
    """
    attention = config.block.attention
    return 2 * config.n_layer * attention.kv_heads * attention.width * tokens * batch * bytes_per_number


def _mlp(config: DecoderConfig, active: bool) -> tuple[int, int]:
    """The numbers in the matrices of one block's MLP or mixture of experts, and those in its biases."""
    d, moe = config.d_model, config.moe
    kind, bias, f = (
        (config.mlp, config.bias, config.block.d_hidden) if moe is None else (moe.mlp, moe.bias, moe.d_hidden)
    )
    maps = 3 if kind == "swiglu" else 2

    def one(f: int) -> tuple[int, int]:
        return maps * d * f, ((maps - 1) * f + d) * bias

    if moe is None:
        return one(f)
    passed, (matrix, biases) = moe.top_k if active else moe.n_expert, one(f)
    shared_matrix, shared_biases = one(moe.n_shared * f) if moe.n_shared else (0, 0)
    return d * moe.n_expert + passed * matrix + shared_matrix, passed * biases + shared_biases
