"""The reward model: a language model that reads a prompt and an answer, and says one number, how good the answer is.

    r(x, y) = w · h_last(x y) + c         loss = -log σ(r(x, better) - r(x, worse))       score = (r - mean) / deviation

h_last is what the trunk makes of the last token of the answer, the only place that has seen all of it. Where that is is
known from the lengths, never from a search for the padding token, which a model may well write. Only differences of r
are learned, so its zero and its unit mean nothing; `normalise` sets them once, on answers of a reference model.

Whether an answer is true does not stand in h_last, but what the trunk knows shows in how likely it finds the answer.
With `reads_likelihood` the head reads three more numbers, of the log-probabilities of the answer's tokens: their sum,
the least of them, and exp of the sum, the probability of the answer.

Paper:   Stiennon et al. 2020, "Learning to summarize from human feedback", §3.4, arXiv:2009.01325; Ouyang et al. 2022,
         "InstructGPT", §3.5, arXiv:2203.02155; head and normalisation: Ziegler et al. 2019, "Fine-Tuning Language
         Models from Human Preferences", §2.1, arXiv:1909.08593; that a model's probabilities say what it knows:
         Kadavath et al. 2022, "Language Models (Mostly) Know What They Know", arXiv:2207.05221.
Names:   r is `raw`, `score` the same after `normalise`; `trunk` is the decoder below the head.
Differs: the trunk is copied, so the model that was given stays as it is. All comparisons weigh the same; InstructGPT
         puts all pairs of one ranking into one batch and divides by their number. No head there reads likelihoods.
Next:    minillm/alignment/ppo.py
"""

import copy
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.alignment.bradley_terry import fit_linear
from minillm.alignment.preferences import Comparison
from minillm.attention.positions import RopeScaling
from minillm.core.files import write_atomically
from minillm.core.modes import switched
from minillm.core.tensor_files import StoredTensors, write_tensors
from minillm.neural.language_model import Tokenizer
from minillm.neural.pairs import padded, shuffled
from minillm.transformer.decoder import Decoder, DecoderConfig
from minillm.transformer.moe import MoEConfig, auxiliary_loss

CONFIG, WEIGHTS, FORMAT = "reward_config.json", "reward_model.safetensors", 1
LIKELIHOODS = 3  # numbers that `reads_likelihood` adds to what the head reads


@dataclass(frozen=True, slots=True)
class Preferred:
    """One comparison as tokens: a prompt, the answer that was chosen, and the one that was not."""

    prompt: list[int]
    better: list[int]
    worse: list[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonBatch:
    """b comparisons as 2b rows: the first answers, then the second ones, each behind its prompt, filled up at the end.

    >>> batch = ComparisonBatch.of([Preferred([1], [2, 3], [4])], pad=9)
    >>> batch.token_nt.tolist(), batch.length_n.tolist(), batch.first_wins_b.tolist()
    ([[1, 2, 3], [1, 4, 9]], [3, 2], [1.0])
    """

    token_nt: Tensor  # int64; n = 2b
    prompt_n: Tensor  # tokens of each row that are prompt
    length_n: Tensor  # tokens of each row that are real, the prompt's among them
    first_wins_b: Tensor  # 1.0 where the first answer was chosen; a share where several raters were asked

    @classmethod
    def of(cls, pairs: Sequence[Preferred], pad: int = 0) -> "ComparisonBatch":
        """The better answers as the first ones."""
        rows = [pair.prompt + pair.better for pair in pairs] + [pair.prompt + pair.worse for pair in pairs]
        if not rows or not all(rows):
            raise ValueError(f"{len(pairs)} pairs, the rule is one or more, each with a token in prompt or answer")
        return cls(
            token_nt=padded(rows, pad),
            prompt_n=torch.tensor([len(pair.prompt) for pair in pairs] * 2),
            length_n=torch.tensor([len(row) for row in rows]),
            first_wins_b=torch.ones(len(pairs)),
        )


class RewardModel(nn.Module):
    """A decoder trunk and one number at its end.

    `loss` and `count` are for `train`; `score` is what PPO takes as its reward.

    >>> from minillm.transformer.decoder import gpt2
    >>> model = RewardModel(Decoder(gpt2(vocabulary=9, context=8, n_layer=1, n_head=2, d_model=4)))
    >>> model.score([[1, 2], [3]], [[4], [5, 6, 7]]).shape
    torch.Size([2])
    >>> model.loss(ComparisonBatch.of([Preferred([1], [2, 3], [2, 3])])).item()  # nothing to tell them apart: log 2
    0.6931471824645996
    """

    def __init__(self, trunk: Decoder, *, reads_likelihood: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.trunk, d, self.reads_likelihood = copy.deepcopy(trunk), trunk.config.d_model, reads_likelihood
        parameter = next(self.trunk.parameters())
        width = d + LIKELIHOODS * reads_likelihood
        self.head = nn.Linear(width, 1, device=parameter.device, dtype=parameter.dtype)
        with torch.no_grad():
            drawn = torch.randn(1, d, generator=torch.Generator().manual_seed(seed))
            self.head.weight.zero_()
            self.head.weight[:, :d] = drawn / (d + 1) ** 0.5
            self.head.bias.zero_()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros((), device=parameter.device))
        self.register_buffer("deviation", torch.ones((), device=parameter.device))

    def raw(self, token_bt: Tensor, length_b: Tensor, prompt_b: Tensor | None = None) -> Tensor:
        """One number (b,) for each row, read at its last real token; what stands behind that is never seen.

        `prompt_b`, the tokens that are prompt, is needed by a model that reads likelihoods.
        """
        return _at_least_float32(self.head(self.reading(token_bt, length_b, prompt_b)).squeeze(-1))

    def reading(self, token_bt: Tensor, length_b: Tensor, prompt_b: Tensor | None = None) -> Tensor:
        """What the head reads: the trunk's vector (b, d) at the last real token, behind it the likelihoods if asked."""
        t = token_bt.shape[1]
        if length_b.shape != token_bt.shape[:1] or not 1 <= int(length_b.min()) <= int(length_b.max()) <= t:
            raise ValueError(f"length_b={length_b.tolist()} must hold a length from 1 to t={t} for each of "
                             f"{len(token_bt)} rows")  # fmt: skip
        hidden_btd = self.trunk.hidden(token_bt)
        last_bd = hidden_btd[torch.arange(len(token_bt), device=token_bt.device), length_b.to(token_bt.device) - 1]
        if not self.reads_likelihood:
            return last_bd
        if prompt_b is None or int(prompt_b.min()) < 1 or bool((prompt_b >= length_b).any()):
            raise ValueError(f"prompt_b={prompt_b if prompt_b is None else prompt_b.tolist()} must hold the length of "
                             f"each prompt, from 1 to below length_b={length_b.tolist()}: likelihoods are read of what "
                             "follows a prompt")  # fmt: skip
        return torch.cat([last_bd, self._likelihoods(hidden_btd, token_bt, length_b, prompt_b)], dim=1)

    def _likelihoods(self, hidden_btd: Tensor, token_bt: Tensor, length_b: Tensor, prompt_b: Tensor) -> Tensor:
        """Sum and least of the log-probabilities of each answer's tokens, and the probability of all of it: (b, 3)."""
        token_bs = token_bt[:, 1:]  # what each place but the last predicts
        logp_bsv = self.trunk.score(hidden_btd[:, :-1]).float().log_softmax(-1)
        logp_bs = logp_bsv.gather(-1, token_bs[..., None]).squeeze(-1)
        place_s = torch.arange(1, token_bt.shape[1], device=token_bt.device)
        begin, end = (length.to(place_s)[:, None] for length in (prompt_b, length_b))
        logp_bs = torch.where((begin <= place_s) & (place_s < end), logp_bs, 0.0)
        whole_b = logp_bs.sum(1)
        return torch.stack([whole_b, logp_bs.amin(1), whole_b.exp()], dim=1).to(hidden_btd)

    def loss(self, batch: ComparisonBatch) -> Tensor:
        """Mean nats of the choices under Bradley–Terry: cross-entropy on the difference of two scores."""
        device = self.head.weight.device
        tensors = (batch.token_nt, batch.length_n, batch.prompt_n)
        first_b, second_b = self.raw(*(tensor.to(device) for tensor in tensors)).chunk(2)
        nats = F.binary_cross_entropy_with_logits(first_b - second_b, batch.first_wins_b.to(first_b))
        return nats + auxiliary_loss(self.trunk) if self.training and self.trunk.config.moe is not None else nats

    def count(self, batch: ComparisonBatch) -> int:
        """What a batch weighs among others: its comparisons."""
        return len(batch.first_wins_b)

    def score(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> Tensor:
        """The normalised score (n,) of each response to its prompt, without gradient."""
        return (self.raw_scores(prompts, responses) - self.mean) / self.deviation

    def raw_scores(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> Tensor:
        """The scores (n,) before normalisation: differences of them are logits of Bradley–Terry."""
        return _at_least_float32(self.head(self.features(prompts, responses)).squeeze(-1).detach())

    @torch.no_grad()
    def features(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], rows: int = 64) -> Tensor:
        """What the head reads of each response: (n, d) or (n, d + 3), computed in batches of `rows` of like length."""
        texts = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
        context = self.trunk.config.context
        for i, text in enumerate(texts):
            if not 0 < len(text) <= context:
                raise ValueError(f"prompt and response {i} have {len(text)} tokens together; 1 to context={context} "
                                 "can be read")  # fmt: skip
        found = torch.zeros(len(texts), self.head.in_features).to(self.head.weight)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        with switched(self, training=False):
            for start in range(0, len(order), rows):
                chosen = order[start : start + rows]
                lengths = torch.tensor([len(texts[i]) for i in chosen], device=found.device)
                token_bt = padded([texts[i] for i in chosen]).to(found.device)
                begun = torch.tensor([len(prompts[i]) for i in chosen], device=found.device)
                found[torch.tensor(chosen, device=found.device)] = self.reading(token_bt, lengths, begun)
        return found

    def margins(self, pairs: Sequence[Preferred]) -> Tensor:
        """r(better) - r(worse) of each comparison (n,): above 0 is a right guess, σ of it the model's confidence."""
        prompts = [pair.prompt for pair in pairs]
        better_n = self.raw_scores(prompts, [pair.better for pair in pairs])
        return better_n - self.raw_scores(prompts, [pair.worse for pair in pairs])

    def accuracy(self, pairs: Sequence[Preferred]) -> float:
        """The share of comparisons whose choice the model guesses; a tie is half a guess."""
        return float(((self.margins(pairs).sign() + 1) / 2).mean())

    def normalise(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> None:
        """Set zero and unit so that these responses, samples of the reference, have mean 0 and deviation 1.

        The two constants are then frozen: they are saved with the weights and do not follow the policy.
        """
        raw_n = self.raw_scores(prompts, responses)
        if len(raw_n) < 2 or not float(raw_n.std()) > 0:
            raise ValueError(f"{len(raw_n)} responses with scores {raw_n[:4].tolist()} have no spread that could "
                             "become the unit; give at least two that differ, better some hundreds")  # fmt: skip
        self.mean.copy_(raw_n.mean())
        self.deviation.copy_(raw_n.std())

    def fit_head(self, pairs: Sequence[Preferred], prior: float = 1.0) -> float:
        """Find the best head for the trunk as it is, exactly; for few comparisons. Returns the mean loss in nats.

        `prior` is that of `fit_linear`, on features divided by their spread: more of it, less trust in the comparisons.
        """
        prompts = [pair.prompt for pair in pairs]
        better_nd = self.features(prompts, [pair.better for pair in pairs]).double()
        worse_nd = self.features(prompts, [pair.worse for pair in pairs]).double()
        spread_d = torch.cat([better_nd, worse_nd]).std(dim=0).clamp(min=1e-6)
        weight, nats = fit_linear(((better_nd - worse_nd) / spread_d).cpu().numpy(), prior=prior)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(weight)[None].to(spread_d.device) / spread_d)
            self.head.bias.zero_()
        return nats

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write configuration, weights and the two constants; the folder is made if it is missing."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        tied = "trunk.score.weight" if self.trunk.config.tied else ""
        write_tensors(Path(folder) / WEIGHTS, {n: x for n, x in self.state_dict().items() if n != tied})
        fields = {"format": FORMAT, "reads_likelihood": self.reads_likelihood, "decoder": asdict(self.trunk.config)}
        write_atomically(Path(folder) / CONFIG, json.dumps(fields, indent=2))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "RewardModel":
        """The model that `save` wrote, bit for bit. ValueError for what is missing, extra or of a wrong shape."""
        config, reads_likelihood = _read_config(Path(folder) / CONFIG)
        model = cls(Decoder(config), reads_likelihood=reads_likelihood)
        stored, own = StoredTensors(Path(folder) / WEIGHTS), model.state_dict()
        if model.trunk.config.tied:
            own.pop("trunk.score.weight")
        sizes = {name: tuple(tensor.shape) for name, tensor in own.items()}
        found = {name: stored.shape(name) for name in stored.names}
        if wrong := sorted(name for name in sizes.keys() | found.keys() if sizes.get(name) != found.get(name)):
            name = wrong[0]
            raise ValueError(f"path={os.fspath(stored.path)!r}: tensor {name!r} has shape {found.get(name)}, but "
                             f"{CONFIG} asks for {sizes.get(name)} (None: not there)")  # fmt: skip
        model.to(stored.read("head.weight").dtype)
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if name in found:
                    tensor.copy_(stored.read(name))
        return model.eval()


def encode_comparisons(
    comparisons: Sequence[Comparison], tokenizer: Tokenizer, begin: int | None = None, end: int | None = None
) -> list[Preferred]:
    """Comparisons as tokens: `begin` before each prompt and `end` after each answer, where they are given.

    >>> from minillm.text.tokenizer import CharTokenizer
    >>> one = Comparison(prompt="a", answers=("b", "ba"), choice=1, who="me")
    >>> encode_comparisons([one], CharTokenizer.train("ab"), begin=7, end=8)
    [Preferred(prompt=[7, 0], better=[1, 0, 8], worse=[1, 8])]
    """
    first, last = ([] if token is None else [token] for token in (begin, end))
    code = tokenizer.encode
    return [Preferred(first + code(one.prompt), code(one.better) + last, code(one.worse) + last) for one in comparisons]


def comparison_batches(pairs: Sequence[Preferred], b: int, *, generator: torch.Generator) -> Iterator[ComparisonBatch]:
    """Batches of b comparisons without end, pass after pass, each in an order of its own; a rest is a smaller batch."""
    if b < 1 or not pairs:
        raise ValueError(f"b={b!r} and {len(pairs)} pairs: both must be at least 1; b=16 works")
    while True:
        order = shuffled(len(pairs), generator)
        for start in range(0, len(order), b):
            yield ComparisonBatch.of([pairs[i] for i in order[start : start + b]])


def _at_least_float32(score_b: Tensor) -> Tensor:
    """Scores of a model in bfloat16 are compared in float32."""
    return score_b.to(torch.promote_types(score_b.dtype, torch.float32))


def _read_config(path: Path) -> tuple[DecoderConfig, bool]:
    where = f"path={os.fspath(path)!r}"
    try:
        fields: Any = json.loads(path.read_text(encoding="utf-8"))
        if fields["format"] != FORMAT:
            raise ValueError(f"format={fields['format']!r}, and this program reads {FORMAT}")
        decoder = dict(fields["decoder"])
        for name, kind in (("rope_scaling", RopeScaling), ("moe", MoEConfig)):
            if decoder.get(name) is not None:
                decoder[name] = kind(**decoder[name])
        if not isinstance(reads := fields.get("reads_likelihood", False), bool):
            raise ValueError(f"reads_likelihood={reads!r}, which must be true or false")
        return DecoderConfig(**decoder), reads
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error.strerror}); RewardModel.save writes it") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{where} does not describe a reward model ({error}); save the model again") from None
