"""The five language models of the tour: rules, counts, a window, a state, attention; all read the same documents.

    eliza   1966   rules of one page; says something to everything, and gives no text a probability
    ngram   1995   counted, smoothed by Kneser and Ney
    window  2003   the last words through one hidden layer
    lstm    1997   a state carried from word to word (as a language model: 2012)
    gpt     2018   attention to every word before

Each network has the sizes, the batches and the optimiser that served it best on another village than the one that is
reported; how long each may learn is a setting, and the processor seconds stand in the table.

Paper:   Weizenbaum 1966; Kneser & Ney 1995; Bengio et al. 2003; Hochreiter & Schmidhuber 1997; Radford et al. 2018.
Next:    minillm/course/tour_alignment.py
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from minillm.course.tour_bench import Bench, Clock, by_muon, generator, size
from minillm.course.tour_folder import Measured
from minillm.neural.batches import random_chunks
from minillm.neural.feedforward import FeedForwardConfig, FeedForwardLM
from minillm.neural.language_model import LanguageModel, bits_per_character
from minillm.neural.recurrent import RecurrentConfig, RecurrentLM
from minillm.rules.eliza import Eliza
from minillm.speaker_files import save_speaker
from minillm.speakers import ElizaSpeaker, NGramSpeaker, TextSpeaker
from minillm.statistical import information
from minillm.statistical.ngram import NGramModel
from minillm.text.tokenizer import WordTokenizer
from minillm.training.optim import AdamW, linear_warmup_cosine
from minillm.training.recipe import Recipe
from minillm.transformer.generate import generate

ROW = 224  # tokens of a row that begins with a story: mostly that story and what is told beside it
CHUNKS, CHUNK = 16, 64  # rows of the window network, and their tokens: it sees no further
LSTM_ROWS = 4  # of ROW tokens
CONTEXT = 512  # tokens that the GPT can read: a conversation is longer than a story
LONGEST = 16  # tokens of an answer in the exam
RATES = {"window": 1e-2, "lstm": 1.5e-2}  # of AdamW


def make_eliza(bench: Bench) -> Measured:
    """Nothing is learned; the exam is put to her too."""
    clock, eliza = Clock(), Eliza()
    save_speaker(ElizaSpeaker(), bench.folder.begin("eliza"))
    measured = Measured(model="Eliza, a script", parameters=len(eliza.script.ranks), seconds=clock.seconds)
    return bench.examine("eliza", lambda prompts: [Eliza().reply(prompt) for prompt in prompts], measured)


def make_ngram(bench: Bench) -> Measured:
    """Count, and smooth."""
    clock, text, order = Clock(), bench.text, bench.config.order
    rows = [text.tokenizer.split(document) for document in text.documents]
    known = [word for word in text.tokenizer.vocab.values() if word not in text.tokenizer.special_ids]
    models = {n: NGramModel(order=n, vocabulary=known).fit(rows) for n in (order, 1)}
    save_speaker(NGramSpeaker(models[order], suggestions=text.beginnings), bench.folder.begin("ngram"))
    return Measured(
        model=f"{order}-gram, Kneser–Ney",
        parameters=sum(models[order].sizes),
        seconds=clock.seconds,
        tokens=sum(map(len, rows)) + len(rows),
        bits_per_character=counted_bits(models[order], text.held_out),
        others={"unigram": counted_bits(models[1], text.held_out)},
    )


def make_window(bench: Bench) -> Measured:
    """Bengio's network; to it a chunk from anywhere is as good as a whole story."""
    c, draws = bench.config, generator(bench.config.seed)
    sizes = FeedForwardConfig(vocabulary=len(bench.text.tokenizer.vocab), window=c.window, hidden=256, direct=False,
                              seed=c.seed)  # fmt: skip
    batches = random_chunks(bench.stream_n, CHUNKS, CHUNK, draws)
    return _by_adamw(bench, "window", FeedForwardLM(sizes), batches, draws, f"window of {c.window} words")


def make_lstm(bench: Bench) -> Measured:
    """A state in the place of the window, which learns to remember over a whole story."""
    c, draws = bench.config, generator(bench.config.seed)
    sizes = RecurrentConfig(vocabulary=len(bench.text.tokenizer.vocab), d_model=64, hidden=c.state, seed=c.seed)
    batches = rows_of_stories(bench, LSTM_ROWS, draws)
    return _by_adamw(bench, "lstm", RecurrentLM(sizes), batches, draws, f"LSTM, state of {c.state}")


def make_gpt(bench: Bench) -> Measured:
    """A decoder by the course's recipe, which only goes on with texts so far; the exam is put to it as plain text."""
    c, text = bench.config, bench.text
    recipe = Recipe(vocabulary=len(text.tokenizer.vocab), steps=c.gpt_steps, context=CONTEXT, n_layer=c.n_layer,
                    n_head=4, d_model=c.d_model, seed=c.seed)  # fmt: skip
    model = recipe.model()
    draws = generator(c.seed)
    optimizer, batches = by_muon(model, recipe.learning_rate), rows_of_stories(bench, c.batch, draws)
    seconds = bench.learn("gpt", model, batches, c.gpt_steps, optimizer=optimizer, schedule=recipe.schedule,
                          place=draws)  # fmt: skip
    measured = _kept(
        bench, "gpt", model, f"GPT, {c.n_layer} blocks of {c.d_model}", seconds, c.gpt_steps * c.batch * ROW
    )

    def goes_on(prompts: list[str]) -> list[str]:
        rows = [[text.end, *text.tokenizer.encode(prompt)] for prompt in prompts]
        written = generate(model, rows, LONGEST, temperature=0, stop_tokens=[text.end])
        return [text.tokenizer.decode([t for t in new[len(row) :] if t != text.end])
                for new, row in zip(written, rows, strict=True)]  # fmt: skip

    return bench.examine("gpt", goes_on, measured)


def rows_of_stories(bench: Bench, b: int, draws: torch.Generator) -> Iterator[Tensor]:
    """Endless batches (b, t + 1): each row begins where a story begins, and reads on beyond its end."""
    stream_n = bench.stream_n
    starts = (stream_n == bench.text.end).nonzero()[:, 0][:: len(bench.text.documents) // bench.config.stories]
    starts = starts[starts + ROW < len(stream_n)]
    while True:
        u_b = torch.rand(b, generator=draws, dtype=torch.float64)
        yield stream_n[starts[(u_b * len(starts)).long()][:, None] + torch.arange(ROW + 1)]


def counted_bits(model: NGramModel, documents: list[str]) -> float:
    """Bits per character of an n-gram model: every document with its end, no word unknown."""
    nats = -sum(model.sentence_logprob(WordTokenizer.split(document)) for document in documents)
    return information.bits_per_character(nats, sum(map(len, documents)))


def _by_adamw(
    bench: Bench, stage: str, model: LanguageModel, batches: Iterator[Tensor], draws: torch.Generator, about: str
) -> Measured:
    """Train one of the smaller networks."""
    steps: int = getattr(bench.config, f"{stage}_steps")
    optimizer = AdamW(model.parameters(), RATES[stage], (0.9, 0.95), weight_decay=0.0)
    schedule = lambda step: linear_warmup_cosine(step, steps=steps, warmup=min(20, steps), final=0.02)
    seconds = bench.learn(stage, model, batches, steps, optimizer=optimizer, schedule=schedule, place=draws)
    each = {"window": CHUNKS * CHUNK, "lstm": LSTM_ROWS * ROW}[stage]
    return _kept(bench, stage, model, about, seconds, steps * each)


def _kept(bench: Bench, stage: str, model: LanguageModel, about: str, seconds: float, tokens: int) -> Measured:
    """Keep a network that goes on with texts, and measure it on stories that nobody read."""
    text = bench.text
    speaker = TextSpeaker(model, text.tokenizer, text.end, name=stage, suggestions=text.beginnings)
    save_speaker(speaker, bench.folder.begin(stage))
    return Measured(
        model=about,
        parameters=size(model),
        seconds=seconds,
        tokens=tokens,
        bits_per_character=bits_per_character(model, text.held_out, text.tokenizer, text.end),
    )
