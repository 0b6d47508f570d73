"""How fast each step of the cleaner is, and how right: `python -m tests.benchmarks.cleaning [documents]`.

Speed is in millions of characters read a second, the best of three runs. Rightness is against planted truth: the
village's own dirt, and the same kinds of dirt planted here in the course's stories, by other code.

Next:    tests/text/test_cleaning.py
"""

from minillm.text.cleaning import STEPS, CleaningReport, clean
from minillm.text.corpus import load_stories


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


def report_on(raw: list[str]) -> CleaningReport:
    """Clean, and print the table of records."""
    report = clean(raw)
    print(report)
    return report


if __name__ == "__main__":
    speed(prose(), "prose")
