"""Masks: which query may look at which key, in one place and with one meaning: True = may look.

    causal: s ≤ t        padding: s < length        window: t - window < s ≤ t        prefix: s < prefix or s ≤ t

A mask is boolean and broadcasts to (b, h, t, s). Where there are more keys than queries (a cache), the last query
stands at the last key.

Paper:   causal: Vaswani et al. 2017, §3.2.3, arXiv:1706.03762; window: Beltagy et al. 2020, "Longformer",
         arXiv:2004.05150, and Jiang et al. 2023, "Mistral 7B", arXiv:2310.06825; prefix: Raffel et al. 2020, "T5",
         §3.2.1, arXiv:1910.10683.
Names:   t and s are the numbers of queries and of keys.
Differs: True means "may look", as in torch's `scaled_dot_product_attention` and against torch's `key_padding_mask`.
Next:    minillm/attention/positions.py
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def causal(t: int, s: int | None = None, device: torch.device | str | None = None) -> Tensor:
    """No query looks at a later key: (t, s).

    >>> causal(2, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    return _behind(t, s, device) >= 0


def padding(length_b: Tensor | Sequence[int], s: int, left: bool = False) -> Tensor:
    """Row b has `length_b[b]` tokens, the rest of the s is filling that nobody may look at: (b, 1, 1, s).

    >>> padding([1, 3], 3).int().flatten(1)
    tensor([[1, 0, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    length_b = torch.as_tensor(length_b)
    if length_b.ndim != 1 or int(length_b.min()) < 0 or int(length_b.max()) > s:
        raise ValueError(
            f"length_b={length_b.tolist()!r} must hold one length from 0 to s={s} for each row: [{s}] works"
        )
    place = torch.arange(s, device=length_b.device)
    place = s - 1 - place if left else place
    return (place < length_b[:, None])[:, None, None, :]


def sliding_window(t: int, s: int | None, window: int, device: torch.device | str | None = None) -> Tensor:
    """Each query looks at its own key and the `window - 1` before it: (t, s).

    >>> sliding_window(3, 3, window=2).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [0, 1, 1]], dtype=torch.int32)
    """
    if window < 1:
        raise ValueError(f"window={window} leaves a query no key; window=1 is its own, window=8 works")
    behind = _behind(t, s, device)
    return (behind >= 0) & (behind < window)


def prefix(t: int, s: int | None, prefix_length: int | Tensor, device: torch.device | str | None = None) -> Tensor:
    """Everybody looks at all of the first `prefix_length` keys, and at no later key than itself beyond: (t, s).

    Lengths (b,), one for each row, give a mask (b, 1, t, s).

    >>> prefix(3, 3, prefix_length=2).int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    if int(torch.as_tensor(prefix_length).min()) < 0:
        raise ValueError(f"prefix_length={prefix_length!r} must be at least 0, which is the causal mask; 3 works")
    mask = causal(t, s, device)
    place = torch.arange(mask.shape[1], device=mask.device)
    if isinstance(prefix_length, Tensor):
        return mask | (place < prefix_length[:, None])[:, None, None, :]
    return mask | (place < prefix_length)


def both(*masks: Tensor | None) -> Tensor | None:
    """May look where all of the masks allow it; None allows everything.

    >>> both(None, None) is None
    True
    """
    joined: Tensor | None = None
    for mask in masks:
        joined = mask if joined is None else joined if mask is None else joined & mask
    return joined


def check_mask(may_look: Tensor, shape: tuple[int, int, int, int]) -> None:
    """Raise ValueError unless the mask is boolean and broadcasts to `shape`, which is (b, h, t, s)."""
    if may_look.dtype != torch.bool:
        raise ValueError(
            f"may_look has dtype={may_look.dtype}; the rule is torch.bool, True = may look: may_look.bool()"
        )
    check_broadcast("may_look", may_look, shape)


def check_broadcast(name: str, value: Tensor, shape: tuple[int, int, int, int]) -> None:
    """Raise ValueError unless `value`, called `name`, broadcasts to `shape`, which is (b, h, t, s).

    >>> check_broadcast("bias", torch.zeros(3, 4), (1, 2, 3, 5))
    Traceback (most recent call last):
    ValueError: bias has shape (3, 4), which does not broadcast to (b, h, t, s) = (1, 2, 3, 5); (t, s) = (3, 5) or ...
    """
    own = value.shape
    if len(own) > 4 or any(n not in (1, wanted) for n, wanted in zip(own[::-1], shape[::-1], strict=False)):
        raise ValueError(
            f"{name} has shape {tuple(own)}, which does not broadcast to (b, h, t, s) = {shape}; "
            f"(t, s) = {shape[2:]} or (b, 1, t, s) = {(shape[0], 1, *shape[2:])} works"
        )


def _behind(t: int, s: int | None, device: torch.device | str | None) -> Tensor:
    """How far each key lies behind each query: (t, s), 0 for its own, negative for the future."""
    s = t if s is None else s
    if not 1 <= t <= s:
        raise ValueError(f"t={t} queries among s={s} keys: the last t keys are the queries' own, so 1 ≤ t ≤ s; s={t}")
    place = torch.arange(s, device=device)
    return place[s - t :, None] - place
