"""Speculative decoding: a small model guesses a few tokens, the large one checks all of them at once.

    guess x ~ q;   keep it with probability min(1, p(x) / q(x));   else draw from max(0, p - q), renormalised, and stop

What comes out has exactly the large model's distribution p, whatever the small one's q. Reading n tokens at once costs
the large model little more than reading one (its weights pass through the processor once), so good guesses save time.

Paper:   Leviathan, Kalman and Matias 2023, "Fast Inference from Transformers via Speculative Decoding", algorithm 1,
         arXiv:2211.17192; the same idea: Chen et al. 2023, arXiv:2302.01318.
Names:   p is the large model's distribution, q the draft's, `guesses` the paper's γ.
Differs: temperature and cuts are applied to both models, so p is what `generate` draws from. One prompt at a time.
Next:    minillm/transformer/encoder_decoder.py
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minillm.attention.cache import DecoderCache
from minillm.core.modes import switched
from minillm.statistical.sampling import next_distribution, sample_next
from minillm.transformer.decoder import Decoder

Weigh = Callable[[Tensor], Tensor]


@dataclass(slots=True)
class Speculation:
    """The tokens, prompt included, and how well the draft guessed."""

    tokens: list[int]
    rounds: int = 0  # how often the large model read
    guessed: int = 0  # tokens that the draft proposed
    accepted: int = 0  # those of them that were kept


def speculate(
    model: Decoder,
    draft: Decoder,
    prompt: Sequence[int],
    max_new_tokens: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    guesses: int = 4,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_tokens: Sequence[int] = (),
) -> Speculation:
    """Continue a prompt as `generate(model, [prompt], …)` would, in distribution, with the help of a `draft`.

    Both models share the vocabulary. With `temperature=0` the tokens are those of `generate`, one by one. Ends after
    one of `stop_tokens`. Raises ValueError when the models cannot work together or the contexts are too short.

    >>> from minillm.transformer.decoder import gpt2
    >>> model = Decoder(gpt2(vocabulary=9, context=12, n_layer=2, n_head=2, d_model=4))
    >>> done = speculate(model, model, [1, 2], 10, generator=torch.Generator().manual_seed(0))
    >>> len(done.tokens), done.accepted == done.guessed  # a draft that is the model itself is never refused
    (12, True)
    """
    _check(model, draft, prompt, max_new_tokens, guesses)
    done, stops = Speculation(list(prompt)), frozenset(stop_tokens)
    capacity = len(prompt) + max_new_tokens
    caches = model.new_cache(capacity), draft.new_cache(capacity)

    def weigh(logits_nv: Tensor) -> Tensor:
        return next_distribution(logits_nv, temperature, top_k, top_p)

    with switched(model, training=False), switched(draft, training=False), torch.inference_mode():
        while (left := capacity - len(done.tokens)) > 0:
            count = min(guesses, left - 1)  # the large model adds one itself
            drafted, q_nv = _guess(draft, caches[1], done.tokens, count, weigh, generator)
            logits_tv = _read(model, caches[0], done.tokens + drafted, count + 1)
            kept, token = verify(weigh(logits_tv), q_nv, drafted, generator)
            new = [*drafted[:kept], token]
            done.rounds, done.guessed, done.accepted = done.rounds + 1, done.guessed + count, done.accepted + kept
            for place, one in enumerate(new):
                if one in stops:
                    done.tokens += new[: place + 1]
                    return done
            done.tokens += new
            for cache in caches:  # what was refused was read, and must be forgotten; the last token was not read yet
                cache.rewind(min(cache.length, len(done.tokens) - 1))
    return done


def verify(p_tv: Tensor, q_nv: Tensor, drafted: Sequence[int], generator: torch.Generator | None) -> tuple[int, int]:
    """How many drafted tokens to keep, and the token that follows them.

    `p_tv` is the large model's distribution before each drafted token and after the last: one row more than there are
    tokens. `q_nv` holds the draft's, in its first rows.
    """
    u = torch.rand(len(drafted), dtype=torch.float64, generator=generator).tolist()
    for place, token in enumerate(drafted):
        if u[place] >= acceptance(p_tv[place], q_nv[place], token):
            return place, _draw(residual(p_tv[place], q_nv[place]), generator)
    return len(drafted), _draw(p_tv[len(drafted)], generator)


def acceptance(p_v: Tensor, q_v: Tensor, token: int) -> float:
    """The probability with which a drafted token is kept: min(1, p / q).

    >>> acceptance(torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5]), 0)
    0.5
    """
    p, q = float(p_v[token]), float(q_v[token])
    return min(1.0, p / q) if q > 0 else 1.0  # the draft never proposes what it gives no probability


def residual(p_v: Tensor, q_v: Tensor) -> Tensor:
    """What the large model still owes where the draft promised too little: max(0, p - q), renormalised.

    >>> residual(torch.tensor([0.25, 0.5, 0.25]), torch.tensor([0.5, 0.25, 0.25]))
    tensor([0., 1., 0.])
    """
    owed_v = (p_v - q_v).clamp(min=0)
    total = owed_v.sum()
    return owed_v / total if total > 0 else p_v  # p = q: nothing is refused then


def _guess(
    draft: Decoder, cache: DecoderCache, tokens: list[int], count: int, weigh: Weigh, generator: torch.Generator | None
) -> tuple[list[int], Tensor]:
    """Let the draft continue the tokens by `count`: what it drew, and the distributions (n, v) it drew from."""
    drafted: list[int] = []
    q_nv = torch.zeros(count, draft.vocabulary, dtype=torch.float64)
    for place in range(count):
        q_nv[place] = weigh(_read(draft, cache, tokens + drafted, 1))[0]
        drafted.append(_draw(q_nv[place], generator))
    return drafted, q_nv


def _read(model: Decoder, cache: DecoderCache, tokens: list[int], last: int) -> Tensor:
    """Read those of the tokens that are not in the cache yet: the logits (n, v) after each of the `last` ones."""
    new = torch.tensor([tokens[cache.length :]], device=model.embedding.weight.device)
    return model.score(model.hidden(new, cache)[0, -last:])


def _draw(p_v: Tensor, generator: torch.Generator | None) -> int:
    return int(sample_next(p_v.log(), generator=generator))


def _check(model: Decoder, draft: Decoder, prompt: Sequence[int], max_new_tokens: int, guesses: int) -> None:
    if model.vocabulary != draft.vocabulary:
        raise ValueError(
            f"draft.vocabulary={draft.vocabulary}, but the model has {model.vocabulary} tokens; the draft must know "
            "the same ones, such as a smaller model trained with the same tokenizer"
        )
    if not prompt:
        raise ValueError("prompt=[] holds no token to start from; [end] starts a new document")
    if max_new_tokens < 0 or guesses < 1:
        raise ValueError(f"max_new_tokens={max_new_tokens}, guesses={guesses}: at least 0 and 1; guesses=4 works")
    context = min(model.config.context, draft.config.context)
    if len(prompt) + max_new_tokens > context:
        raise ValueError(
            f"max_new_tokens={max_new_tokens} after a prompt of {len(prompt)} exceeds context={context}, the shorter "
            f"of both; max_new_tokens={max(0, context - len(prompt))} works"
        )
