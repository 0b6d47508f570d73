"""How much faster NGramModel is than nltk's Kneser–Ney: run `python -m tests.benchmarks.ngram` from the root.

Same run, same text, order 3, 200,000 words. nltk's perplexity walks over all n-grams for each word, so it is timed on a
few words and both sides are given per word; `fit` is timed on all of them, each the best of a few rounds.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

from nltk.lm import KneserNeyInterpolated
from nltk.lm.preprocessing import pad_both_ends, padded_everygram_pipeline
from nltk.util import ngrams

from minillm.statistical.ngram import NGramModel

TEXTS = [folder / "shared" / "data" / "tinyshakespeare.txt" for folder in Path(__file__).resolve().parents]


def sentences_of(words: int) -> tuple[str, list[list[str]]]:
    """Return the name of a text and its lines as lists of words, `words` words in all; repeated where it is shorter."""
    if found := [path for path in TEXTS if path.exists()]:
        name, text = found[0].name, found[0].read_text(encoding="utf-8")
    else:
        from pydoc_data.topics import topics

        name, text = "pydoc_data.topics", "\n".join(topics.values())
    lines = [line.split() for line in io.StringIO(text) if line.split()]
    chosen: list[list[str]] = []
    left, at = words, 0
    while left > 0:
        line = lines[at % len(lines)][:left]
        chosen.append(line)
        left, at = left - len(line), at + 1
    return name + (f", repeated {at / len(lines):.1f} times" if at > len(lines) else ""), chosen


def best_seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the shortest time of `rounds` runs."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Print the two ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=200_000)
    parser.add_argument("--nltk-words", type=int, default=24, help="words on which nltk's perplexity is timed")
    arguments = parser.parse_args()
    name, sentences = sentences_of(arguments.words)
    events = arguments.words + len(sentences)
    print(f"{name}: {arguments.words:,} words in {len(sentences):,} sentences, order 3")

    theirs = KneserNeyInterpolated(3)

    def fit_theirs() -> None:
        nonlocal theirs
        theirs = KneserNeyInterpolated(3)
        theirs.fit(*padded_everygram_pipeline(3, sentences))

    ours = NGramModel(order=3)
    ours_fit = best_seconds(lambda: ours.fit(sentences), 5)
    theirs_fit = best_seconds(fit_theirs, 2)
    ours_fit = min(ours_fit, best_seconds(lambda: ours.fit(sentences), 5))
    print(f"fit:        nltk {theirs_fit:8.3f} s   ours {ours_fit:8.4f} s   ratio {theirs_fit / ours_fit:10,.0f}")

    sample = [gram for sentence in sentences[:50] for gram in ngrams(pad_both_ends(sentence, n=3), 3)]
    sample = [gram for gram in sample if gram[1:] != ("</s>", "</s>")][: arguments.nltk_words]
    theirs_each = best_seconds(lambda: theirs.perplexity(sample), 1) / len(sample)
    ours_each = best_seconds(lambda: ours.perplexity(sentences), 5) / events
    print(
        f"perplexity: nltk {1 / theirs_each:8.1f} words/s   ours {1 / ours_each:12,.0f} words/s   "
        f"ratio {theirs_each / ours_each:10,.0f}"
    )


if __name__ == "__main__":
    main()
