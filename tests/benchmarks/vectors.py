"""How fast and how right Word2Vec is, beside gensim in the same run: `python -m tests.benchmarks.vectors`.

Speed: one million words of the village, words a second over the whole of training (both with their vocabulary pass
counted), gensim with two workers, ours in one thread; the two in turn, and the ratio of each turn. Seconds of
processor time are given as well: on a busy machine they say more than the clock.
Rightness: the analogies of the village and nearest neighbours within kinds of words, the same text, dimensions, window,
negatives and epochs, three seeds.

    python -m tests.benchmarks.vectors speed --words 1000000 --turns 3
    python -m tests.benchmarks.vectors accuracy --seeds 3
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

from gensim.models import Word2Vec as Gensim

from minillm.text import village_words as words
from minillm.text.village import Village
from minillm.vectors.evaluation import analogy_accuracy, neighbour_accuracy, sentences_of
from minillm.vectors.glove import GloVe
from minillm.vectors.word2vec import Word2Vec
from minillm.vectors.word_vectors import WordVectors

SETTING = {"window": 5, "min_count": 2, "epochs": 5}


def village_sentences(stories: int) -> list[list[str]]:
    """Stories, news and posts, and as many facts again as there are texts."""
    village = Village(seed=0)
    texts = village.stories(stories) + village.news(stories) + village.posts(stories) + village.facts(3 * stories)
    return sentences_of(texts)


def groups() -> list[set[str]]:
    """Kinds of words, as the village knows them."""
    people = {name for name, person in Village(seed=0).people.items() if name not in Village(seed=0).world.strangers}
    return [
        people,
        set(words.JOBS),
        {job.place for job in words.JOBS.values()},
        set(words.HOMES),
        set(words.FOODS),
        set(words.COLOURS),
        {*words.THINGS, *words.ANIMALS},
    ]


def gensim(sentences: list[list[str]], seed: int, architecture: str) -> WordVectors:
    """Train gensim with the same setting."""
    setting = SETTING | {"vector_size": 100, "negative": 5, "workers": 2, "seed": seed + 1}
    theirs = Gensim(sentences, sg=int(architecture == "skip-gram"), **setting)
    return WordVectors(theirs.wv.index_to_key, theirs.wv.vectors)


def ours(sentences: list[list[str]], seed: int, architecture: str) -> WordVectors:
    """Train ours."""
    return Word2Vec(dimensions=100, negatives=5, seed=seed, architecture=architecture, **SETTING).fit(sentences)


def glove(sentences: list[list[str]], seed: int, architecture: str) -> WordVectors:
    """Train GloVe with the same window."""
    return GloVe(dimensions=100, window=5, seed=seed).fit(sentences)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def speed(size: int, turns: int, architecture: str) -> None:
    """Print words a second and the ratio of each turn."""
    sentences = village_sentences(size // 100)
    while sum(map(len, sentences)) < size:
        sentences += sentences
    total, kept = 0, []
    for sentence in sentences:
        if total >= size:
            break
        kept.append(sentence)
        total += len(sentence)
    ratios, processor_ratios = [], []
    for _ in range(turns):
        theirs, mine = timed(lambda: gensim(kept, 0, architecture)), timed(lambda: ours(kept, 0, architecture))
        ratios.append(theirs[0] / mine[0])
        processor_ratios.append(theirs[1] / mine[1])
        read = total * SETTING["epochs"] / 1000
        print(
            f"{architecture}: {total:,} words, {SETTING['epochs']} epochs: gensim {read / theirs[0]:.0f}k words/s "
            f"({theirs[1]:.1f} processor s), ours {read / mine[0]:.0f}k ({mine[1]:.1f} s), ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}; of processor time {statistics.median(processor_ratios):.2f}")


def mean_and_error(values: list[float]) -> str:
    """Return the mean, its standard error and each value: a difference below the errors is none."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.3f} ± {error:.3f} ({' '.join(f'{value:.2f}' for value in values)})"


def accuracy(stories: int, seeds: int) -> None:
    """Print the accuracies of each relation, means over seeds."""
    sentences, analogies, kinds = village_sentences(stories), Village(seed=0).world.analogies, groups()
    print(
        f"{sum(map(len, sentences)):,} words; means over {seeds} seeds ± their standard errors; in brackets each seed"
    )
    for architecture in ("skip-gram", "cbow"):
        for name, train in {"gensim": gensim, "ours": ours, "GloVe": glove}.items():
            if name == "GloVe" and architecture == "cbow":
                continue
            found: dict[str, list[float]] = {}
            for seed in range(seeds):
                vectors = train(sentences, seed, architecture)
                for relation, pairs in analogies.items():
                    found.setdefault(relation, []).append(analogy_accuracy(vectors, pairs))
                found.setdefault("neighbours", []).append(neighbour_accuracy(vectors, kinds))
            line = "  ".join(f"{relation} {mean_and_error(values)}" for relation, values in found.items())
            print(f"{architecture:9} {name:6}  {line}", flush=True)


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["speed", "accuracy", "all"], default="all")
    parser.add_argument("--words", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--stories", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.what != "accuracy":
        for architecture in ("skip-gram", "cbow"):
            speed(arguments.words, arguments.turns, architecture)
    if arguments.what != "speed":
        accuracy(arguments.stories, arguments.seeds)


if __name__ == "__main__":
    main()
