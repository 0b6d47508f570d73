"""What a pretraining run reads: a text becomes a tokenizer, shards of tokens, and documents that no step ever sees.

    folder/tokenizer.json     BPE, learned from the training documents, or a copy of one that was given
    folder/data/              their tokens, end · document · end · document · … · end
    folder/text.json          which text it was, by its hash

All of it is made once and found again by a run that goes on. The measure is bits per character of the held-out
documents. Of the village's texts the probability is known exactly, so there the measure has a floor: what a model would
reach that knew the village. Beside it stands what counting characters reaches, an interpolated Kneser–Ney model.

Paper:   Shannon 1951, "Prediction and Entropy of Printed English" (bits per character as the measure of a predictor).
Next:    minillm/training/pretrain_judge.py
"""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from minillm.core.files import write_atomically
from minillm.neural.language_model import bits_per_character
from minillm.statistical.ngram import NGramModel
from minillm.text.bpe import BPETokenizer
from minillm.text.corpus import Corpus, load_corpus
from minillm.text.token_shards import INDEX, TokenShards, write_shards
from minillm.text.village import Village
from minillm.transformer.decoder import Decoder

END = "<|end|>"
_ORDER, _COUNTED = 5, 1_000_000  # characters that the counting model looks at, and of how much text
_BOUND = 8 * 2**30  # bytes of a text; all of it is read at once


@dataclass(frozen=True, kw_only=True)
class PretrainData:
    """A text, ready to be learned and to be judged by."""

    name: str
    sha256: str  # of the text
    tokenizer: BPETokenizer
    shards: TokenShards
    train: list[str]
    held_out: list[str]  # documents to judge by, at most about as many characters as were asked for

    @property
    def end(self) -> int:
        """The token between documents."""
        return self.tokenizer.special_ids[END]

    def floor(self) -> float | None:
        """Bits per character of the held-out documents under their true distribution, where that is known."""
        if self.name != "village":
            return None
        village = Village(seed=0)
        nats = -sum(village.logprob(document) for document in self.held_out)
        return nats / math.log(2) / sum(map(len, self.held_out))

    def counted(self) -> float | None:
        """The same under a model that counts: interpolated Kneser–Ney, four characters of context."""
        fitted, size = [], 0
        for document in self.train:
            if size < _COUNTED:
                fitted.append(list(document))
                size += len(document)
        if len(fitted) < 2:
            return None
        model = NGramModel(order=_ORDER, smoothing="kneser-ney").fit(fitted)
        nats = -sum(model.sentence_logprob(list(document)) for document in self.held_out)  # the end of each among them
        return nats / math.log(2) / sum(map(len, self.held_out))

    def bits(self, model: Decoder) -> float:
        """Bits per character of the held-out documents under a model."""
        return bits_per_character(Sliding(model), self.held_out, self.tokenizer, self.end, batch_tokens=4096)


class Sliding(nn.Module):
    """Logits for rows longer than a model's context: windows half a context apart, each judged by its later half.

    >>> from minillm.transformer.decoder import llama
    >>> model = Decoder(llama(vocabulary=7, context=4, n_layer=1, n_head=2, d_model=4))
    >>> tokens_bt = torch.tensor([[0, 1, 2, 3, 4, 5, 6]])
    >>> logits_btv = Sliding(model).logits(tokens_bt)
    >>> bool((logits_btv[:, :4] == model(tokens_bt[:, :4])).all()), logits_btv.shape
    (True, torch.Size([1, 7, 7]))
    """

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def logits(self, tokens_bt: Tensor) -> Tensor:
        """Logits (b, t, v) for any t; every place but the first half context sees at least half a context."""
        t, context = tokens_bt.shape[1], self.model.config.context
        parts, done = [self.model.logits(tokens_bt[:, :context])], min(t, context)
        while done < t:
            stop = min(t, done + max(1, context // 2))
            parts.append(self.model.logits(tokens_bt[:, stop - context : stop])[:, done - stop :])
            done = stop
        return torch.cat(parts, dim=1)


def prepare(folder: Path, text: str, *, vocabulary: int, tokenizer: Path | None = None) -> None:
    """Make what `load` finds, if it is not there yet; half of it, left by a killed run, is made again."""
    corpus = _corpus(text)
    if not corpus.validation:
        raise ValueError(f"text={text!r} is one document, and one must be left out to judge by; put an empty line "
                         "between documents, or give a folder with several files")  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "text.json"
    before = json.loads(known.read_text("utf-8"))["sha256"] if known.is_file() else corpus.sha256
    if before != corpus.sha256:
        raise ValueError(f"{folder} belongs to a run on another text (SHA-256 {before[:12]}, {text!r} has "
                         f"{corpus.sha256[:12]}); give that text again, or another --folder")  # fmt: skip
    if not (saved := folder / "tokenizer.json").is_file():
        made = BPETokenizer.load(tokenizer) if tokenizer else None
        if made is not None and END not in made.special_tokens:
            raise ValueError(
                f"tokenizer={tokenizer} has no special token {END!r}; train it with special_tokens=[{END!r}]"
            )
        joined = "\n\n".join(corpus.train)
        (made or BPETokenizer.train(joined, vocab_size=vocabulary, special_tokens=[END])).save(saved)
    if not (folder / "data" / INDEX).is_file():
        shutil.rmtree(folder / "data", ignore_errors=True)
        bpe = BPETokenizer.load(saved)
        documents = (bpe.encode(document, allow_special=False) for document in corpus.train)
        write_shards(folder / "data", documents, vocabulary=max(bpe.vocab) + 1, end=bpe.special_ids[END])
    write_atomically(known, json.dumps({"text": corpus.name, "sha256": corpus.sha256}))


def load(folder: Path, text: str, *, characters: int) -> PretrainData:
    """What `prepare` made, with held-out documents of about `characters` characters."""
    corpus, held_out, size = _corpus(text), [], 0
    for document in corpus.validation:
        if size < characters:
            held_out.append(document)
            size += len(document)
    return PretrainData(
        name=corpus.name,
        sha256=corpus.sha256,
        tokenizer=BPETokenizer.load(folder / "tokenizer.json"),
        shards=TokenShards(folder / "data", verify=False),
        train=corpus.train,
        held_out=held_out,
    )


def _corpus(text: str) -> Corpus:
    return load_corpus(text, max_bytes=_BOUND)
