"""What chapter 14 trains: small decoders, with experts or without, that read five kinds of village text at once.

    floor of a document = -log p(its kind) - log p(document | kind)        exact: no document is of two kinds

Everything is fixed but the configuration, the number of steps and the seed: the texts, their order, the optimiser. Long
runs are stored in `notebooks/results/`; `python -m minillm.course.mixed_reading` makes them again.

Paper:   Fedus, Zoph and Shazeer 2021, "Switch Transformers", §2, arXiv:2101.03961: mixture and dense model at equal
         work per token.
Names:   a *reader* is a decoder of this size; *above the floor* are bits per character, as a mean over the five kinds.
Next:    minillm/course/widgets_14.py
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minillm.core.files import write_atomically
from minillm.course.places import find_course
from minillm.neural.batches import random_chunks, token_stream
from minillm.neural.language_model import bits_per_character
from minillm.statistical import information
from minillm.text.bpe import BPETokenizer
from minillm.text.dice import Dice
from minillm.text.village import Village
from minillm.training.loop import train
from minillm.training.optim import AdamW, linear_warmup_cosine
from minillm.transformer.decoder import Decoder, DecoderConfig, llama
from minillm.transformer.moe import MoE, MoEConfig

KINDS = ("stories", "news", "questions", "sums", "translations")
AMOUNTS = {"stories": 400, "news": 1400, "questions": 5400, "sums": 10_000, "translations": 2000}  # like many tokens
NEW_AMOUNTS = {"stories": 12, "news": 40, "questions": 180, "sums": 400, "translations": 60}
D_MODEL, ACTIVE, T, B = 64, 64, 64, 16  # width; numbers inside the MLPs that a token passes; tokens of a piece; pieces
SHORT, LONG, SEEDS = 150, 1000, 3
RESULTS = Path("notebooks/results/14-mixture-of-experts.json")


@dataclass(frozen=True, slots=True)
class Texts:
    """What all readers read, and what none can beat."""

    stream_n: Tensor  # the training documents, shuffled
    new: dict[str, list[str]]  # held-out documents of each kind
    floor: dict[str, float]  # of these very documents, in bits per character
    tokenizer: BPETokenizer
    end: int


@lru_cache(maxsize=1)
def mixed_texts() -> Texts:
    """Village texts of five kinds in one stream; a translation is an English line and a Chinese one."""
    village = Village(seed=0)
    documents = {kind: _write(village, kind, n) for kind, n in AMOUNTS.items()}
    everything = Dice(14).shuffled([text for texts in documents.values() for text in texts])
    tokenizer = BPETokenizer.train("\n".join(everything), vocab_size=1024, special_tokens=["</s>"])
    end = tokenizer.special_ids["</s>"]
    new = {kind: _write(village, kind, n, start=1_000_000) for kind, n in NEW_AMOUNTS.items()}
    floor = {kind: _floor(village, kind, texts) for kind, texts in new.items()}
    return Texts(token_stream(everything, tokenizer, end), new, floor, tokenizer, end)


def _write(village: Village, kind: str, n: int, start: int = 0) -> list[str]:
    if kind == "translations":
        return ["\n".join(pair) for pair in village.translations(n, start=start)]
    return getattr(village, kind)(n, start=start)


def _floor(village: Village, kind: str, texts: list[str]) -> float:
    """Bits per character of documents for a reader who knows the village: which kind, then which document of it."""
    parts: list[Any] = [tuple(text.split("\n")) for text in texts] if kind == "translations" else texts
    nats = -sum(village.logprob(part, kind) for part in parts)
    nats -= len(texts) * math.log(AMOUNTS[kind] / sum(AMOUNTS.values()))
    return information.bits_per_character(nats, sum(map(len, texts)))


def experts(*, n_expert: int = 8, top_k: int = 2, balance_loss: float = 0.01) -> MoEConfig:
    """Mixtral's mixture, its experts so narrow that those of one token are `ACTIVE` wide together.

    >>> experts().d_hidden, experts(top_k=1).d_hidden
    (32, 64)
    """
    return MoEConfig(
        d_model=D_MODEL, d_hidden=ACTIVE // top_k, n_expert=n_expert, top_k=top_k, balance_loss=balance_loss
    )


def balanced_by_bias(bias_speed: float = 0.01) -> MoEConfig:
    """DeepSeek-V3's balance on the same experts; its step is larger, because the runs are shorter."""
    return replace(experts(balance_loss=0.0), score="sigmoid", normalise=True, bias_speed=bias_speed)


def reader(moe: MoEConfig | None = None, d_hidden: int = ACTIVE) -> DecoderConfig:
    """Two blocks of Llama's kind with ALiBi, which reads on beyond the pieces of training (chapter 10).

    Its MLPs begin as large as in a model of width 768, as in that chapter.

    >>> reader(experts()).moe.n_expert
    8
    """
    config = llama(vocabulary=1024, context=1024, n_layer=2, n_head=4, d_model=D_MODEL, tied=True)
    scale = math.sqrt(768 / D_MODEL)
    return replace(
        config, positions="alibi", moe=moe, d_hidden=d_hidden if moe is None else None, first_mlp_scale=scale
    )


CONFIGS = {
    "dense, equal work": reader(),
    "dense, equal parameters": reader(d_hidden=8 * ACTIVE // 2),
    "experts, no balance": reader(experts(balance_loss=0.0)),
    "experts, balance loss": reader(experts()),
    "experts, balance by bias": reader(balanced_by_bias()),
}


def new_reader(config: DecoderConfig, seed: int = 0) -> Decoder:
    """A decoder before training."""
    return Decoder(replace(config, seed=seed))


def fit(
    config: DecoderConfig, steps: int = SHORT, seed: int = 0, watch: Callable[[Decoder], object] | None = None
) -> Decoder:
    """A trained reader; the seed says where it begins and what it reads when. `watch` sees it after every step."""
    texts, model = mixed_texts(), new_reader(config, seed)
    batches = random_chunks(texts.stream_n, b=B, t=T, generator=torch.Generator().manual_seed(seed))
    optimizer = AdamW(model.parameters(), learning_rate=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = lambda step: linear_warmup_cosine(step, steps=steps, warmup=min(20, steps), final=0.02)
    callbacks = [] if watch is None else [lambda _: watch(model) and False]
    train(model, batches, steps=steps, optimizer=optimizer, schedule=schedule, clip=1.0, callbacks=callbacks)
    return model.eval()


def bits_by_kind(model: Decoder) -> dict[str, float]:
    """Bits per character on new documents of each kind."""
    texts = mixed_texts()
    return {kind: bits_per_character(model, new, texts.tokenizer, texts.end) for kind, new in texts.new.items()}


def above_floor(bits: dict[str, float]) -> float:
    """Bits per character that no text asks for: the mean over the kinds of what is paid above the floor."""
    floor = mixed_texts().floor
    return sum(paid - floor[kind] for kind, paid in bits.items()) / len(bits)


def mixtures(model: Decoder) -> list[MoE]:
    """The mixture of every block, the first first."""
    return [block.mlp for block in model.blocks if isinstance(block.mlp, MoE)]  # pyright: ignore


@torch.no_grad()
def choices_by_kind(model: Decoder) -> list[dict[str, Tensor]]:
    """For each block and kind of new text: the share of its choices that each expert was, (e,)."""
    texts, found = mixed_texts(), [dict[str, Tensor]() for _ in mixtures(model.eval())]
    for kind, new in texts.new.items():
        stream_n = token_stream(new, texts.tokenizer, texts.end)
        model(stream_n[: len(stream_n) // T * T].view(-1, T))
        for by_kind, layer in zip(found, mixtures(model), strict=True):
            assert layer.routing is not None
            by_kind[kind] = layer.routing.load_e
    return found


def effective_experts(load_e: Tensor) -> float:
    """How many experts would be as even as this load: exp of its entropy.

    >>> round(effective_experts(torch.tensor([0.5, 0.5, 0.0, 0.0])), 3)
    2.0
    """
    return math.exp(float(torch.special.entr(load_e).sum()))


def kind_information(by_kind: dict[str, Tensor]) -> float:
    """Bits that a choice of expert tells about the kind of text it was made in, all kinds equally likely.

    >>> round(kind_information({"sums": torch.tensor([1.0, 0.0]), "news": torch.tensor([0.0, 1.0])}), 3)
    1.0
    """
    joint = torch.stack(list(by_kind.values())).double() / len(by_kind)
    return information.mutual_information((joint / joint.sum()).numpy(), base=2)


TRIAL_STEPS, CHOICES = 60, ("score", "balance_loss", "bias_speed", "z_loss")


def trial(recipe: dict[str, Any], seed: int = 0) -> tuple[float, float]:
    """What a balance brings in a short run: bits above the floor, and effective experts in the less even block.

    `recipe` gives any of `CHOICES`; experts, choices, texts and optimiser stay as they are. Raises ValueError or
    TypeError for what no mixture can be made of, `training.loop.Diverged` when the loss is no number any more.
    """
    chosen = {name: recipe[name] for name in CHOICES if name in recipe}
    model = fit(reader(replace(experts(balance_loss=0.0), **chosen)), TRIAL_STEPS, seed)
    loads = [torch.stack(list(by_kind.values())).mean(dim=0) for by_kind in choices_by_kind(model)]
    return above_floor(bits_by_kind(model)), min(map(effective_experts, loads))


def one_run(name: str, steps: int, seed: int) -> dict[str, Any]:
    """One row of the stored table."""
    model = fit(CONFIGS[name], steps, seed)
    bits = bits_by_kind(model)
    row: dict[str, Any] = {"name": name, "steps": steps, "seed": seed, "above_floor": round(above_floor(bits), 4)}
    row["bits"] = {kind: round(paid, 4) for kind, paid in bits.items()}
    found = choices_by_kind(model)
    loads = [torch.stack(list(by_kind.values())).mean(dim=0) for by_kind in found]
    row["effective_experts"] = [round(effective_experts(load_e), 2) for load_e in loads]
    row["kind_information"] = [round(kind_information(by_kind), 3) for by_kind in found]
    return row


def stored_runs() -> list[dict[str, Any]]:
    """The rows of the stored table: `name`, `steps`, `seed`, `above_floor`, `bits` by kind, and of each block
    `effective_experts` and `kind_information` on new text (empty lists for a dense reader).
    """
    return json.loads((find_course() / RESULTS).read_text(encoding="utf-8"))["runs"]


def main() -> None:
    """Make all runs again and store them: about ten minutes of one core."""
    torch.set_num_threads(1)
    runs = []
    for seed in range(SEEDS):
        for name in CONFIGS:
            runs += [one_run(name, steps, seed) for steps in (SHORT, LONG)]
            print(f"seed {seed}, {name}: {runs[-1]['above_floor']:.3f} bits above the floor")
    table = {"made by": "python -m minillm.course.mixed_reading", "runs": runs}
    path = find_course() / RESULTS
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
