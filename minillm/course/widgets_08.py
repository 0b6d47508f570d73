"""The widget of chapter 08: hide a word, see what the encoder guesses, and where it looked to guess it.

    guess = softmax of the scores at the hidden place          row of a head = the weights of that place's query

Paper:   Devlin et al. 2019, "BERT", §3.1, arXiv:1810.04805; what heads look at: Clark et al. 2019, "What Does BERT Look
         At?", §3, arXiv:1906.04341.
Next:    minillm/course/checks_08.py
"""

import torch

from minillm.course.figures import Figure, heat_map
from minillm.course.widgets import Explorer, slider, words
from minillm.text.tokenizer import WordTokenizer
from minillm.transformer.encoder import MaskedLM
from minillm.transformer.encoder_batches import SpecialTokens, TextBatch

LONGEST = 30  # words that the slider reaches


@torch.no_grad()
def guesses_for(
    model: MaskedLM, tokenizer: WordTokenizer, sentence: str, place: int, n: int = 5
) -> tuple[list[str], list[tuple[str, float]], list[list[float]]]:
    """Hide word number `place` (from 1): the tokens as seen, the n best guesses, and each head's weights from there.

    ValueError when the sentence is empty or has no such word. The third part has a row for each head, layer by layer.
    """
    special, ids = SpecialTokens.of(tokenizer), tokenizer.encode(sentence)
    if not 1 <= place <= len(ids):
        raise ValueError(f"place={place!r} must be a word of the sentence, 1 … {len(ids)}; place=1 hides the first")
    tokens_bt = TextBatch.of([ids], special).tokens_bt
    tokens_bt[0, place] = special.mask  # place 0 is [CLS]
    share_v = model.logits(tokens_bt)[0, place].softmax(dim=-1)
    best = share_v.topk(min(n, len(share_v)))
    guesses = [(tokenizer.vocab[i], p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
    rows = [head[place].tolist() for layer in model.encoder.attention_weights(tokens_bt) for head in layer[0]]
    return [tokenizer.vocab[i] for i in tokens_bt[0].tolist()], guesses, rows


class MaskExplorer(Explorer):
    """Type a sentence and choose the word to hide; see each head's look around, and the guesses."""

    def __init__(self, model: MaskedLM, tokenizer: WordTokenizer, sentence: str, place: int = 1) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.text = words("sentence", sentence)
        self.place = slider("hide word number", place, low=1, high=LONGEST)
        super().__init__(self.text, self.place)

    def draw(self) -> tuple[Figure, str]:
        """A row for each head, a column for each token; beyond its end the slider means the last word."""
        ids = self.tokenizer.encode(self.text.value)[: self.model.config.context - 2]
        sentence = self.tokenizer.decode(ids) if ids else "."
        place = min(int(self.place.value), max(1, len(ids)))
        tokens, guesses, rows = guesses_for(self.model, self.tokenizer, sentence, place)
        hidden = self.tokenizer.vocab[ids[place - 1]] if ids else "."
        heads = len(rows) // self.model.config.n_layer
        listed = ", ".join(f"{word} {share:.0%}" for word, share in guesses)
        figure = heat_map(
            rows,
            row_names=[f"{i // heads + 1}.{i % heads + 1}" for i in range(len(rows))],
            column_names=[f"{token:>5}" for token in tokens],
            title="Where the hidden place looks",
            row_label="layer and head",
            column_label="token",
            value_label="weight (no unit)",
            alt=f"Each head's weights from the place where {hidden!r} was; the best guess is {guesses[0][0]!r}.",
        )
        return figure, f"Hidden: {hidden!r}, word {place}. The guesses: {listed}."
