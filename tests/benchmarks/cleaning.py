"""How fast each step of the cleaner is, and how right: `python -m tests.benchmarks.cleaning [documents]`.

Speed is in millions of characters read a second, each step's best of three runs. Rightness is against planted truth:
the village's own dirt; hand-written cases and dirt planted in real prose are in the tests.

Next:    tests/text/test_cleaning.py
"""

import sys

from minillm.text.cleaning import STEPS, clean
from minillm.text.cleaning_scores import score_steps
from minillm.text.corpus import load_stories
from minillm.text.village import Village


def speed(documents: list[str], title: str) -> None:
    """Print characters a second of each step and of all."""
    runs = [clean(documents) for _ in range(3)]
    print(f"{title}: {len(documents):,} documents, {sum(map(len, documents)) / 1e6:.2f} M characters")
    for name in STEPS:
        print(f"  {name:<18} {max(run.step(name).megabytes_per_second for run in runs):8.1f} MB/s")
    seconds = min(sum(step.seconds for step in run.steps) for run in runs)
    print(f"  {'all steps':<18} {sum(map(len, documents)) / 1e6 / seconds:8.1f} MB/s")


def prose(copies: int = 4) -> list[str]:
    """About a megabyte of prose: the stories, and the stories with their sentences in other orders."""
    documents = []
    for turn in range(copies):
        for i, story in enumerate(load_stories()):
            other = load_stories()[(i * 7 + turn * 31) % 300]
            documents.append(" ".join((story.sentences + other.sentences)[turn::2]))
    return documents


def rightness(documents: int, seed: int) -> None:
    """Print precision and recall of each step on the village's planted dirt."""
    print(f"village, seed {seed}, {documents:,} dirty documents")
    for name, score in score_steps(Village(seed=seed).dirty(documents)).items():
        print(f"  {name:<18} {score}")


def main(documents: int = 2000) -> None:
    """Print what the cleaner finds, then how fast."""
    rightness(documents, seed=0)
    rightness(documents, seed=21)
    speed(prose(), "prose")
    speed([document.text for document in Village(seed=0).dirty(documents)], "village, dirty")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
