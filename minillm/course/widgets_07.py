"""The widget of chapter 07: what a head reads while the machine writes, and what it would write if it stopped earlier.

    row t, column s: the weight with which the place that writes token t + 1 looks at token s
    after layer n:   argmax of the scores of norm(stream after layer n), for every place

The second line is the logit lens: the last norm and the table of the model, applied to the stream of an earlier layer.

Paper:   Vaswani et al. 2017, appendix (pictures of heads), arXiv:1706.03762; nostalgebraist 2020, "interpreting GPT:
         the logit lens"; residual stream: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
Next:    minillm/course/checks_07.py
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from minillm.course.figures import Figure, heat_map
from minillm.course.widgets import Explorer, choice, slider
from minillm.neural.pairs import PairBatch
from minillm.text.tokenizer import WordTokenizer
from minillm.transformer.encoder_decoder import EncoderDecoder, Looking

KINDS: dict[str, Looking] = {"target reads source": "cross", "source reads source": "source", "target": "target"}
BEGIN, END = "<begin>", "<end>"


@torch.no_grad()
def guesses_by_layer(model: EncoderDecoder, batch: PairBatch) -> list[Tensor]:
    """What the machine would write at every place if it stopped there: n_layer + 1 tensors (b, t - 1) of token ids.

    The first is about the embeddings alone, the last is what the whole machine writes.
    """
    _, streams = model.streams(batch)
    return [F.linear(model.target_norm(stream), model.embedding.weight).argmax(-1) for stream in streams]


class TranslationExplorer(Explorer):
    """Choose a sentence, a layer and a head of a trained machine; see where it looks while it translates.

    The tokenizer needs the special tokens "<begin>" and "<end>"; the sentences must be in its words.

    >>> from minillm.transformer.encoder_decoder import EncoderDecoderConfig
    >>> tokenizer = WordTokenizer.train("Tom reads . 汤 姆 看 书 。", special_tokens=["<begin>", "<end>"])
    >>> model = EncoderDecoder(EncoderDecoderConfig(vocabulary=len(tokenizer.vocab), d_model=8, n_head=2))
    >>> TranslationExplorer(model, tokenizer, ["Tom reads."], max_tokens=5).sentence[:32]
    'Layer 2 of 2, head 1 of 2. Most:'
    """

    def __init__(
        self, model: EncoderDecoder, tokenizer: WordTokenizer, sentences: Sequence[str], max_tokens: int = 40
    ) -> None:
        if not sentences:
            raise ValueError("sentences=[] gives nothing to choose from; for example ['Tom found a kite.']")
        self.model, self.tokenizer, self.max_tokens = model, tokenizer, max_tokens
        config = model.config
        self.words = choice("sentence", list(sentences))
        self.kind = choice("who looks", list(KINDS))
        self.layer = slider("layer", config.n_layer, low=1, high=config.n_layer)
        self.head = slider("head", 1, low=1, high=config.n_head)
        super().__init__(self.words, self.kind, self.layer, self.head)

    def batch(self, sentence: str) -> PairBatch:
        """The sentence, and the translation that the machine itself gives it."""
        begin, end = (self.tokenizer.special_ids[name] for name in (BEGIN, END))
        source = self.tokenizer.encode(sentence)
        target = self.model.translate([source], begin=begin, end=end, max_tokens=self.max_tokens)[0]
        return PairBatch.of([(source, [token for token in target if token != begin])], begin=begin, end=end)

    def draw(self) -> tuple[Figure, str]:
        """The weights of one head as a heat map, where it looks most, and the translation after this layer."""
        batch, layer, head = self.batch(str(self.words.value)), int(self.layer.value), int(self.head.value)
        kind = KINDS[str(self.kind.value)]
        weight_ts = self.model.weights(batch, layer=layer - 1, kind=kind)[0, head - 1]
        source, target = self._texts(batch.source_bs[0]), self._texts(batch.target_bt[0])
        # a place of the target is named by the token that it writes; what it can read are the tokens before
        rows, columns = {
            "cross": (target[1:], source),
            "source": (source, source),
            "target": (target[1:], target[:-1]),
        }[kind]
        most = ", ".join(
            f"{row} ← {columns[int(place)]}" for row, place in zip(rows, weight_ts.argmax(-1), strict=True)
        )
        said = f"Layer {layer} of {self.model.config.n_layer}, head {head} of {self.model.config.n_head}. Most: {most}."
        if kind != "source":
            guess = self._texts(guesses_by_layer(self.model, batch)[layer][0])
            said += f"\nIf it stopped after layer {layer}, it would write: {WordTokenizer.join(guess)}"
        figure = heat_map(
            weight_ts.tolist(),
            row_names=rows,
            column_names=columns,
            title=f"Layer {layer}, head {head}: {self.kind.value}",
            row_label="token that is read for" if kind == "source" else "token that is written",
            column_label="token that is read",
            value_label="weight (no unit)",
            alt=said,
        )
        return figure, said

    def _texts(self, ids: Tensor) -> list[str]:
        return [self.tokenizer.vocab[int(token)] for token in ids]
