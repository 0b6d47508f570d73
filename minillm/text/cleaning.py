"""From raw documents to text worth learning from, in eight steps, each with a record of what it did.

    normalise → markup → noise → boilerplate → quality → exact duplicates → near-duplicates → personal data

The order is part of the method. Spelling first, because every later rule compares strings; markup before boilerplate,
because a menu is a line only when its tags are gone; quality before duplicates, because it is cheap and they are not;
masking last, because a mask makes different texts alike, and duplicates are judged on what was written.

A cleaner is a classifier, and is judged as one: `score` gives precision (of what it touched, how much was dirt) and
recall (of the dirt, how much it touched) against a truth that somebody planted.

Paper:   the sequence follows Penedo et al. 2023, "The RefinedWeb Dataset for Falcon LLM", §3, arXiv:2306.01116; see
         the single steps for theirs.
Differs: RefinedWeb also picks by language and by address; we have no addresses.
Next:    minillm/text/cleaning_scores.py
"""

import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from minillm.text.boilerplate import BoilerplateConfig, remove_boilerplate
from minillm.text.markup import remove_markup
from minillm.text.near_duplicates import NearDuplicateConfig, near_duplicates
from minillm.text.noise import remove_noise
from minillm.text.normalise import normalise
from minillm.text.personal_data import mask_personal_data
from minillm.text.quality import QualityConfig, why_not

STEPS = (
    "normalise",
    "markup",
    "noise",
    "boilerplate",
    "quality",
    "exact duplicates",
    "near-duplicates",
    "personal data",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CleaningConfig:
    """Which steps to take, in the order of `STEPS`, and the settings of those that have some."""

    steps: tuple[str, ...] = STEPS
    boilerplate: BoilerplateConfig = field(default_factory=BoilerplateConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    near: NearDuplicateConfig = field(default_factory=NearDuplicateConfig)

    def __post_init__(self) -> None:
        if unknown := [step for step in self.steps if step not in STEPS]:
            raise ValueError(f"steps={unknown} are unknown; the steps are {', '.join(STEPS)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """What one step did. Numbers of documents are places in the list that `clean` was given."""

    name: str
    changed: dict[int, str]  # document -> its text after the step, where the step altered it
    dropped: dict[int, str]  # document -> why
    documents_in: int
    characters_in: int
    characters_out: int
    seconds: float

    @property
    def megabytes_per_second(self) -> float:
        """Millions of characters read a second."""
        return self.characters_in / 1e6 / max(self.seconds, 1e-9)

    def __str__(self) -> str:
        return (
            f"{self.name:<16} {self.documents_in:>7} documents: {len(self.changed):>6} changed, {len(self.dropped):>6} "
            f"dropped, {self.characters_in:>9} → {self.characters_out:>9} characters"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CleaningReport:
    """The clean documents, where each came from, and what every step did.

    `origin[k]` is the place of `documents[k]` in the raw list. `str()` gives a table, the same on every machine.
    """

    documents: list[str]
    origin: list[int]
    steps: list[StepReport]

    def step(self, name: str) -> StepReport:
        """The record of one step.

        >>> clean(["Twice is once too often, said Ann."] * 2).step("exact duplicates").dropped
        {1: 'equals document 0'}
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise ValueError(f"{name=} is not a step that was taken; taken: {', '.join(step.name for step in self.steps)}")

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Precision and recall of a set of finds against the truth; both are 1 where there is nothing to find."""

    found: int
    planted: int
    right: int

    @property
    def precision(self) -> float:
        """Of what was found, the share that is true."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Of what is true, the share that was found."""
        return self.right / self.planted if self.planted else 1.0

    def __str__(self) -> str:
        return (
            f"precision {self.precision:.4f} ({self.right} of {self.found}), "
            f"recall {self.recall:.4f} ({self.right} of {self.planted})"
        )


def score(found: Collection[Hashable], truth: Collection[Hashable]) -> Score:
    """Compare finds with the truth.

    >>> print(score({1, 2, 3}, {2, 3, 4, 5}))
    precision 0.6667 (2 of 3), recall 0.5000 (2 of 4)
    """
    return Score(found=len(set(found)), planted=len(set(truth)), right=len(set(found) & set(truth)))


def clean(documents: Sequence[str], config: CleaningConfig | None = None) -> CleaningReport:
    """Take all steps. Documents are dropped or rewritten, never merged or reordered.

    >>> report = clean(["<p>Ask   Mira: mira@harbour.example</p>", "#### ####", "Ask Mira: mira@harbour.example"])
    >>> report.documents, report.origin
    (['Ask Mira: <email>'], [0])
    """
    config = config or CleaningConfig()
    texts = dict(enumerate(documents))
    if wrong := [i for i, text in texts.items() if not isinstance(text, str)]:
        raise ValueError(f"documents[{wrong[0]}] is of type {type(texts[wrong[0]]).__name__}; documents are strings")
    reports: list[StepReport] = []
    for name in STEPS:
        if name in config.steps:
            start = time.perf_counter()
            places, before = list(texts), list(texts.values())
            after, reasons = _STEP[name](before, config)
            changed = {i: new for i, old, new in zip(places, before, after, strict=True) if old != new}
            dropped = {places[k]: reason.format(*places) for k, reason in reasons.items()}
            texts = {i: text for i, text in zip(places, after, strict=True) if i not in dropped}
            reports.append(
                StepReport(
                    name=name,
                    changed=changed,
                    dropped=dropped,
                    documents_in=len(before),
                    characters_in=sum(map(len, before)),
                    characters_out=sum(map(len, texts.values())),
                    seconds=time.perf_counter() - start,
                )
            )
    return CleaningReport(documents=list(texts.values()), origin=list(texts), steps=reports)


def exact_duplicates(documents: Sequence[str]) -> dict[int, int]:
    """For each document that repeats an earlier one, which one. Case and white space do not count.

    >>> exact_duplicates(["One fish.", "Two fish.", "one  fish."])
    {2: 0}
    """
    first: dict[bytes, int] = {}
    copy_of: dict[int, int] = {}
    for i, document in enumerate(documents):
        key = blake2b(" ".join(document.lower().split()).encode("utf-8", "replace"), digest_size=16).digest()
        if (original := first.setdefault(key, i)) != i:
            copy_of[i] = original
    return copy_of


# A step takes texts and gives new texts and, by place, why a text goes; "{3}" in a reason stands for the raw place.
_Step = Callable[[list[str], CleaningConfig], tuple[list[str], dict[int, str]]]


def _quality(texts: list[str], config: CleaningConfig) -> tuple[list[str], dict[int, str]]:
    return texts, {i: reason for i, text in enumerate(texts) if (reason := why_not(text, config.quality))}


def _exact(texts: list[str], config: CleaningConfig) -> tuple[list[str], dict[int, str]]:
    return texts, {i: f"equals document {{{j}}}" for i, j in exact_duplicates(texts).items()}


def _near(texts: list[str], config: CleaningConfig) -> tuple[list[str], dict[int, str]]:
    found = near_duplicates(texts, config.near)
    return texts, {i: f"{found.similarity[i]:.2f} like document {{{j}}}" for i, j in found.copy_of.items()}


_STEP: dict[str, _Step] = {
    "normalise": lambda texts, config: ([normalise(text) for text in texts], {}),
    "markup": lambda texts, config: ([_markup(text) for text in texts], {}),
    "noise": lambda texts, config: ([remove_noise(text) for text in texts], {}),
    "boilerplate": lambda texts, config: (remove_boilerplate(texts, config.boilerplate), {}),
    "quality": _quality,
    "exact duplicates": _exact,
    "near-duplicates": _near,
    "personal data": lambda texts, config: ([mask_personal_data(text) for text in texts], {}),
}


def _markup(text: str) -> str:
    """Without markup; normalised again where something went, because entities bring in new spaces and quotes."""
    plain = remove_markup(text)
    return text if plain == text else normalise(plain)
