"""Preferences: two answers to one prompt, and which of them somebody chose.

    {"prompt": "Once", "answers": ["He smiled.", "He cried."], "choice": 0, "who": "ada"}     one line, one judgement

A file of judgements only ever grows. Each is one line, written in one go and on the disk before the next is asked for;
one that is taken back is a line too. So a program that is killed has lost nothing but, at worst, half of the line that
it was writing, and that half is told, kept aside, and never taken for a judgement.

Paper:   Christiano et al. 2017, "Deep Reinforcement Learning from Human Preferences", §2.2, arXiv:1706.03741; rankings
         as pairs: Ouyang et al. 2022, "InstructGPT", §3.5, arXiv:2203.02155; agreement: Cohen 1960, "A Coefficient of
         Agreement for Nominal Scales"; Krippendorff 2004, "Content Analysis", §11.3.
Names:   `answers` are Christiano's σ¹ and σ², `choice` his μ, which may not be undecided here.
Differs: which answer stood on the left is kept too: people favour a side, and only a record of it shows that.
Next:    minillm/alignment/labellers.py
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

from minillm.core.json_lines import append_line, mend_lines, object_of, whole_lines

_NEEDED, _OPTIONAL = ("prompt", "answers", "choice", "who"), ("left", "when")
_UNDONE = ("prompt", "better", "worse")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One judgement: `who` chose `answers[choice]` as an answer to `prompt`.

    >>> one = Comparison(prompt="Once", answers=("He smiled.", "He cried."), choice=0, who="ada")
    >>> one.better, one.worse
    ('He smiled.', 'He cried.')
    """

    prompt: str
    answers: tuple[str, str]  # two that differ; their order says nothing
    choice: int  # 0 or 1: which of them is preferred
    who: str  # a name for the rater
    left: int | None = None  # which of them stood on the left, where that is known
    when: str | None = None  # date and time as in ISO 8601, such as "2026-11-22T17:00:00+00:00"

    def __post_init__(self) -> None:
        if not isinstance(self.answers, tuple) or len(self.answers) != 2:
            raise ValueError(f"answers={self.answers!r:.80} must be two texts, such as ('He smiled.', 'He cried.')")
        for name, text in (("prompt", self.prompt), ("answers", self.answers[0]), ("answers", self.answers[1])):
            if not isinstance(text, str) or not _is_unicode(text):
                raise ValueError(f"{name}={text!r:.80} must be text that UTF-8 can hold; {name}='Once' works")
        if self.answers[0] == self.answers[1]:
            raise ValueError(f"answers are the same text twice, {self.answers[0]!r:.60}: there is nothing to choose")
        for name, value in (("choice", self.choice), ("left", self.left)):
            if (value is not None or name == "choice") and (type(value) is not int or value not in (0, 1)):
                raise ValueError(f"{name}={value!r} must be 0 or 1, the place of one of the two answers")
        if not isinstance(self.who, str) or not self.who.strip() or not _is_unicode(self.who):
            raise ValueError(f"who={self.who!r:.80} must name the rater; 'me' works")
        if self.when is not None and not _is_time(self.when):
            raise ValueError(f"when={self.when!r:.80} is not a time as in '2026-11-22T17:00:00+00:00'")

    @property
    def better(self) -> str:
        """The answer that was chosen."""
        return self.answers[self.choice]

    @property
    def worse(self) -> str:
        """The one that was not."""
        return self.answers[1 - self.choice]


def ranked(prompt: str, answers: Sequence[str], who: str) -> list[Comparison]:
    """All K(K - 1)/2 judgements in a ranking of K answers, the best first.

    They are not K(K - 1)/2 independent ones: all come from one look at K texts.

    >>> [(one.better, one.worse) for one in ranked("Once", ["a", "b", "c"], who="ada")]
    [('a', 'b'), ('a', 'c'), ('b', 'c')]
    """
    return [Comparison(prompt=prompt, answers=pair, choice=0, who=who) for pair in combinations(answers, 2)]


def read_comparisons(path: str | os.PathLike[str]) -> list[Comparison]:
    """All judgements that stand, in their order. Raises ValueError with path and line for any that breaks a rule."""
    where, standing = f"path={os.fspath(path)!r}", []
    lines, torn = whole_lines(path)
    for number, line in lines:
        try:
            entry = _parsed(line)
            if isinstance(entry, Comparison):
                standing.append(entry)
            else:
                _take(standing, entry)
        except ValueError as error:
            raise ValueError(f"{where} line {number}: {error}") from None
    if torn:
        raise ValueError(f"{where} ends in the middle of a line, {torn[:40]!r}: whoever wrote it was "
                         "stopped; mend(path) keeps that half aside")  # fmt: skip
    return standing


def append_comparison(path: str | os.PathLike[str], one: Comparison) -> None:
    """Add a judgement as one line; when this returns it is on the disk. The file is made if it is missing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.jsonl"
    ...     for choice in (0, 1):
    ...         append_comparison(path, Comparison(prompt="p", answers=("a", "b"), choice=choice, who="me"))
    ...     take_back(path, "me")
    ...     [one.better for one in read_comparisons(path)]
    Comparison(prompt='p', answers=('a', 'b'), choice=1, who='me', left=None, when=None)
    ['a']
    """
    fields: dict[str, Any] = {name: getattr(one, name) for name in _NEEDED}
    fields |= {name: value for name in _OPTIONAL if (value := getattr(one, name)) is not None}
    append_line(path, fields)


def take_back(path: str | os.PathLike[str], who: str, one: Comparison | None = None) -> Comparison:
    """Take back the last judgement of `who` that still stands, and return it. The file keeps both lines.

    With `one` it is the last that is about its prompt and its two answers and chooses as it does.
    """
    undo: dict[str, Any] = {"undo": who}
    if one is not None:
        undo |= {"prompt": one.prompt, "better": one.better, "worse": one.worse}
    taken = _take(read_comparisons(path) if Path(path).exists() else [], undo)
    append_line(path, undo)
    return taken


def mend(path: str | os.PathLike[str]) -> str | None:
    """Make a file end with a whole line. Returns the half line that is now in `path` + ".torn", None if there was none.

    A last line that is whole but for its end is ended, not put aside. Nobody else may write to the file meanwhile.
    """
    return mend_lines(path, _parsed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far raters agree about what more than one of them judged."""

    items: int  # pairs of answers that at least two raters judged
    share: float  # of all couples of judgements about one item: those that are the same
    alpha: float  # Krippendorff's: 1 is agreement, 0 what chance gives, below 0 is less than chance


def agreement(comparisons: Iterable[Comparison]) -> Agreement:
    """How far the raters agree. Of two judgements by one rater about one pair the later counts.

    >>> judged = [("ada", "x", 0), ("bob", "x", 0), ("ada", "y", 0), ("bob", "y", 1), ("ada", "z", 1), ("bob", "z", 1)]
    >>> agreement(Comparison(prompt=p, answers=("a", "b"), choice=c, who=who) for who, p, c in judged).items
    3
    """
    labels: dict[tuple[str, ...], dict[str, int]] = {}
    for one in comparisons:
        first, second = sorted(one.answers)  # the same pair, in whatever order it was written
        labels.setdefault((one.prompt, first, second), {})[one.who] = int(one.better == second)
    shared = [list(by_rater.values()) for by_rater in labels.values() if len(by_rater) > 1]
    if not shared:
        raise ValueError("comparisons hold no pair of answers that two raters judged, so nobody can agree or disagree")
    couples = [a == b for item in shared for a, b in combinations(item, 2)]
    return Agreement(items=len(shared), share=sum(couples) / len(couples), alpha=krippendorff_alpha(shared))


def cohen_kappa(first: Sequence[Any], second: Sequence[Any]) -> float:
    """Agreement of two raters beyond what their habits alone would give: (seen - expected) / (1 - expected).

    >>> cohen_kappa([1, 1, 0, 0], [1, 0, 0, 0])  # the same 3 of 4 times; habits alone: 1/2 · 1/4 + 1/2 · 3/4 = 1/2
    0.5
    """
    if len(first) != len(second) or not first:
        raise ValueError(
            f"{len(first)} and {len(second)} labels: the raters must have judged the same items, one or more"
        )
    seen = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    habits, others = Counter(first), Counter(second)
    expected = sum(habits[label] * others[label] for label in habits) / len(first) ** 2
    if expected == 1:
        raise ValueError(f"both raters said {first[0]!r} to everything: there is no chance to compare with")
    return (seen - expected) / (1 - expected)


def krippendorff_alpha(items: Iterable[Sequence[Any]]) -> float:
    """1 - observed / expected disagreement, for any number of raters, with labels that have no order.

    `items` holds, for each item, the labels that it was given; items with fewer than two say nothing. Observed: a
    random couple of labels of one item differs. Expected: a random couple of all labels differs.

    >>> print(f"{krippendorff_alpha([[1, 1], [1, 0], [0, 0], [0, 0, 0], [1]]):.3f}")
    0.556
    """
    paired = [list(labels) for labels in items if len(labels) > 1]
    counts = Counter(label for labels in paired for label in labels)
    n = counts.total()
    if len(counts) < 2:
        raise ValueError(f"the labels are all the same ({list(counts)}), or no item has two: agreement is not defined")
    observed = sum(_differing(Counter(labels)) / (len(labels) - 1) for labels in paired) / n
    return 1 - observed / (_differing(counts) / (n * (n - 1)))


def _differing(counts: Counter[Any]) -> int:
    """How many ordered couples of labels differ."""
    return counts.total() ** 2 - sum(count**2 for count in counts.values())


def _parsed(line: bytes) -> Comparison | dict[str, str]:
    """A line as a judgement, or as what it takes back; ValueError with the reason."""
    fields = object_of(line)
    if set(fields) in ({"undo"}, {"undo", *_UNDONE}) and all(isinstance(text, str) for text in fields.values()):
        return fields
    missing = [name for name in _NEEDED if name not in fields]
    extra = [name for name in fields if name not in _NEEDED + _OPTIONAL]
    if missing or extra:
        raise ValueError(f"fields missing: {missing}, unknown: {extra}; the rule is {', '.join(_NEEDED)}, and if you "
                         f"like {', '.join(_OPTIONAL)}")  # fmt: skip
    if isinstance(fields["answers"], list):
        fields["answers"] = tuple(fields["answers"])
    return Comparison(**fields)


def _take(standing: list[Comparison], undo: dict[str, str]) -> Comparison:
    """Remove and return the last judgement of a rater, or the last of theirs about one pair of answers."""
    for place in reversed(range(len(standing))):
        one = standing[place]
        if one.who == undo["undo"] and all(
            getattr(one, name) == undo.get(name, getattr(one, name)) for name in _UNDONE
        ):
            return standing.pop(place)
    raise ValueError(f"who={undo['undo']!r} takes back a judgement, but none of theirs stands")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, say
        return False
    return True


def _is_time(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(datetime.fromisoformat(text))
    except ValueError:
        return False
