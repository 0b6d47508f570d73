"""Everything that is measured about text and counts, ratios in one run: `python -m tests.benchmarks.text`.

Run it on an idle machine; it takes about two minutes.
"""

from tests.benchmarks import bpe, cleaning, ngram, village


def main() -> None:
    """Print the village, the cleaner, BPE beside the Rust package, n-grams beside nltk."""
    for part in (village, cleaning, bpe, ngram):
        print(f"\n== {part.__name__.rpartition('.')[2]}")
        part.main()


if __name__ == "__main__":
    main()
