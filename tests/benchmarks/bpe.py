"""How fast our BPE trains and encodes, beside the `tokenizers` package (Rust) in the same run.

    python -m tests.benchmarks.bpe [file]          from the root of the repository

Times are medians of five runs made in turn, after a warm-up run of each. The text is the first 1 MB of the file, or of
`../shared/data/tinyshakespeare.txt` where it exists, else the language reference that ships inside Python,
repeated to 1 MB if it is shorter. The Rust package may use all cores; ours uses one. Its training is faster on
many lines than on one string, because it cuts them in parallel, so it is given lines; its encoder is timed both ways.
Goals: training within 2 times of Rust's, encoding at 2 MB/s or more.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from minillm.text.bpe import BPETokenizer

SIZE = 1_000_000  # characters, which is bytes in ASCII text
VOCABULARY = 1024


def english(given: str | None = None) -> tuple[str, str]:
    """One megabyte of English, and where it is from."""
    path = Path(given or Path(__file__).parents[2].parent / "shared" / "data" / "tinyshakespeare.txt")
    if given or path.is_file():
        return path.read_text(encoding="utf-8")[:SIZE], path.stem
    from pydoc_data.topics import topics

    text = "\n".join(topics.values())
    return (text * (SIZE // len(text) + 1))[:SIZE], "Python's language reference"


def train_rust(lines: list[str]) -> Tokenizer:
    """Train the Rust package's byte-level BPE on lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def seconds(work: dict[str, Callable[[], object]], runs: int = 5) -> dict[str, float]:
    """The median seconds of each piece of work, all run in turn so that a noisy moment meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for run in range(runs + 1):
        for name, function in work.items():
            start = time.perf_counter()
            function()
            if run:  # the first is the warm-up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Print the ratios."""
    text, source = english(*sys.argv[1:2])
    lines = text.splitlines(keepends=True)
    megabytes = len(text.encode()) / 1e6
    ours, rust = BPETokenizer.train(text, VOCABULARY), train_rust(lines)
    ids = ours.encode(text)
    chunks = [text[start : start + 4096] for start in range(0, len(text), 4096)]
    took = seconds(
        {
            "train": lambda: BPETokenizer.train(text, VOCABULARY),
            "train rust": lambda: train_rust(lines),
            "train rust, one string": lambda: train_rust([text]),
            "encode": lambda: ours.encode(text),
            "encode first time": lambda: BPETokenizer(ours.vocab, ours.merges).encode(text),
            "encode stream": lambda: sum(1 for _ in ours.encode_iterable(chunks)),
            "encode rust": lambda: rust.encode(text),
            "encode rust, lines in parallel": lambda: rust.encode_batch(lines),
            "decode": lambda: ours.decode(ids),
        }
    )
    print(f"BPE, {VOCABULARY} tokens, {megabytes:.2f} MB of {source}; medians of 5")
    for name, value in took.items():
        print(f"  {name:<32} {value * 1000:7.0f} ms  {megabytes / value:6.1f} MB/s")
    ratio = took["train"] / took["train rust"]
    speed = megabytes / took["encode"]
    print(f"training: {ratio:.2f} × the time of tokenizers (goal: at most 2): {'reached' if ratio <= 2 else 'MISSED'}")
    print(f"encoding: {speed:.1f} MB/s after warm-up (goal: at least 2): {'reached' if speed >= 2 else 'MISSED'}")


if __name__ == "__main__":
    main()
