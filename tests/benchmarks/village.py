"""How fast the village writes and reads, and what it holds: `python -m tests.benchmarks.village`."""

import time

from minillm.text.village import KINDS, Village


def megabytes_per_second(village: Village, kind: str, n: int = 20_000) -> float:
    """Write n texts of a kind; bytes are those of UTF-8."""
    village._write(kind, 1, 0)  # compile before the clock starts
    start = time.perf_counter()
    written = village._write(kind, n, 0)
    return sum(len(text.encode()) for text in written) / (time.perf_counter() - start) / 1e6


def texts_scored_per_second(village: Village, kind: str, n: int = 2_000) -> float:
    """Compute the exact log-probability of n texts."""
    written = village._write(kind, n, 0)
    start = time.perf_counter()
    for text in written:
        village.logprob(text, kind)
    return n / (time.perf_counter() - start)


def main() -> None:
    """Print one line per kind of text."""
    village = Village(seed=0)
    print(f"{'kind':13} {'MB/s':>6} {'scored/s':>9} {'bits/char':>10} {'words':>6}  different texts")
    for kind in KINDS:
        grammar = village.grammar(kind)
        speed, scored = megabytes_per_second(village, kind), texts_scored_per_second(village, kind)
        floor, words = village.entropy_per_character(kind), len(grammar.vocabulary())
        print(f"{kind:13} {speed:6.1f} {scored:9.0f} {floor:10.4f} {words:6d}  {grammar.count():,}")
    for kind in ("stories", "translations"):
        print(f"{kind} in Chinese: {village.entropy_per_character(kind, 'zh'):.4f} bits per character")


if __name__ == "__main__":
    main()
