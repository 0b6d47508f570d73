"""A decoder made and trained by a recipe of plain choices: what the open exercise of chapter 10 is judged by.

    recipe  →  120 steps of AdamW on village stories, 16 × 32 tokens each  →  bits per character on new stories

Everything but the recipe is fixed: the texts, the order in which they come, the optimiser and its schedule.

Paper:   Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", §3, arXiv:2203.15556: choices compared
         at a fixed budget.
Next:    minillm/course/checks_10.py
"""

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from minillm.neural.batches import consecutive_chunks, random_chunks, token_stream
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village
from minillm.training.loop import evaluate, train
from minillm.training.optim import AdamW, linear_warmup_cosine
from minillm.transformer.decoder import Decoder, DecoderConfig

STEPS, CONTEXT = 120, 32
CHOICES = ("d_model", "n_layer", "n_head", "n_kv_head", "d_hidden", "norm", "mlp", "positions", "bias")


@lru_cache(maxsize=1)
def _texts() -> tuple[Tensor, list[Tensor], int, float]:
    """A training stream, batches of new stories, the size of the vocabulary, and nats a token per bit a character."""
    village = Village(seed=0)
    tales, new_tales = village.stories(800), village.stories(40, start=100_000)
    tokenizer = WordTokenizer.train("\n".join(tales), special_tokens=["</s>"])
    end = tokenizer.special_ids["</s>"]
    new_n = token_stream(new_tales, tokenizer, end)
    per_token = math.log(2) * sum(map(len, new_tales)) / (len(new_n) - 1)
    batches = list(consecutive_chunks(new_n, b=32, t=CONTEXT))
    return token_stream(tales, tokenizer, end), batches, len(tokenizer.vocab), per_token


def config_of(recipe: dict[str, Any]) -> DecoderConfig:
    """The decoder that a recipe describes; raises ValueError where its parts do not fit, TypeError for wrong kinds.

    >>> config_of({"d_model": 8, "n_layer": 1, "n_head": 2, "learning_rate": 0.01}).vocabulary > 400
    True
    """
    chosen = {name: recipe[name] for name in CHOICES if name in recipe}
    return DecoderConfig(vocabulary=_texts()[2], context=CONTEXT, tied=True, **chosen)


def held_out_bits(recipe: dict[str, Any], seed: int = 0) -> float:
    """Bits per character on new stories after training by the recipe; the seed draws the start and the batches.

    AdamW has no decay, its rate is `recipe["learning_rate"]`, with 20 steps of warm-up and then a cosine. Raises
    `training.loop.Diverged` when the loss is no number any more.
    """
    stream_n, new_batches, _, per_token = _texts()
    model = Decoder(replace(config_of(recipe), seed=seed))
    batches = random_chunks(stream_n, b=16, t=CONTEXT, generator=torch.Generator().manual_seed(seed))
    rate = float(recipe["learning_rate"])
    optimizer = AdamW(model.parameters(), learning_rate=rate, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = lambda step: linear_warmup_cosine(step, steps=STEPS, warmup=20, final=0.02)
    train(model, batches, steps=STEPS, optimizer=optimizer, schedule=schedule, clip=1.0)
    return evaluate(model, new_batches) / per_token
