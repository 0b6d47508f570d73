"""How right is the cleaner? Each step against the truth of documents whose dirt was planted.

    precision = planted and found / found        recall = planted and found / planted

The unit is what a step decides on: a tag for markup, a line for noise and boilerplate, a document for quality and
duplicates, an address or number for personal data. Every step is judged on what the steps before it left over, as in
real use; markup, the first that takes something away, on the raw text.

Paper:   van Rijsbergen 1979, "Information Retrieval", chapter 7 (precision and recall).
Next:    minillm/text/tokenizer.py
"""

from collections import Counter
from collections.abc import Sequence

from minillm.text.cleaning import STEPS, CleaningConfig, CleaningReport, Score, clean, score
from minillm.text.markup import find_markup
from minillm.text.normalise import normalise
from minillm.text.personal_data import find_personal_data
from minillm.text.village_dirt import PERSONAL, DirtyDocument


def score_steps(documents: Sequence[DirtyDocument], config: CleaningConfig | None = None) -> dict[str, Score]:
    """Clean the documents and compare every step with their truth; personal data by kind.

    "whole" is the sum of all: of the documents that were kept, how many should have been and are letter for letter what
    they should be (blank lines aside); and of those that should have been kept, how many are.

    >>> from minillm.text.village import Village
    >>> scores = score_steps(Village(seed=0).dirty(300))
    >>> [name for name in scores if scores[name].precision < 0.98 or scores[name].recall < 0.98]
    []
    """
    config = config or CleaningConfig()
    report = clean([document.text for document in documents], config)
    scores = {"markup": _markup(documents)}
    for name in ("noise", "boilerplate"):
        scores[name] = _lines(documents, report, name)
    scores["quality"] = _dropped(report, "quality", {i for i, d in enumerate(documents) if d.junk})
    for name, copy in (("exact duplicates", "exact"), ("near-duplicates", "near")):
        scores[name] = _dropped(report, name, {i for i, d in enumerate(documents) if d.copy == copy})
    scores |= {kind: _personal(documents, report, kind) for kind in PERSONAL}
    wanted = {(i, _joined(d.masked())) for i, d in enumerate(documents) if not d.junk and not d.copy}
    scores["whole"] = score({(i, _joined(t)) for i, t in zip(report.origin, report.documents, strict=True)}, wanted)
    return scores


def _before(report: CleaningReport, documents: Sequence[DirtyDocument], name: str) -> dict[int, str]:
    """The texts as they came to a step, by document; those dropped earlier are not among them."""
    texts = {i: document.text for i, document in enumerate(documents)}
    for step in report.steps:
        if step.name == name:
            return texts
        texts |= step.changed
        texts = {i: text for i, text in texts.items() if i not in step.dropped}
    raise ValueError(f"{name=} is not a step of this report; steps are {', '.join(STEPS)}")


def _markup(documents: Sequence[DirtyDocument]) -> Score:
    found = {(i, tag.start, tag.end) for i, d in enumerate(documents) for tag in find_markup(d.text)}
    return score(found, {(i, p.start, p.end) for i, d in enumerate(documents) for p in d.planted if p.kind == "markup"})


def _lines(documents: Sequence[DirtyDocument], report: CleaningReport, name: str) -> Score:
    """Lines that the step took out, against lines planted; a line that comes twice counts twice."""
    changed = report.step(name).changed
    found = planted = right = 0
    for i, text in _before(report, documents, name).items():
        gone = Counter(text.split("\n")) - Counter(changed.get(i, text).split("\n"))
        del gone[""]
        truth = Counter(normalise(p.string) for p in documents[i].planted if p.kind == name)
        found, planted, right = found + gone.total(), planted + truth.total(), right + (gone & truth).total()
    return Score(found=found, planted=planted, right=right)


def _dropped(report: CleaningReport, name: str, truth: set[int]) -> Score:
    return score(report.step(name).dropped, truth)


def _personal(documents: Sequence[DirtyDocument], report: CleaningReport, kind: str) -> Score:
    found = planted = right = 0
    for i, text in _before(report, documents, "personal data").items():
        masked = Counter(text[datum.start : datum.end] for datum in find_personal_data(text) if datum.kind == kind)
        truth = Counter(p.string for p in documents[i].planted if p.kind == kind)
        found, planted, right = found + masked.total(), planted + truth.total(), right + (masked & truth).total()
    return Score(found=found, planted=planted, right=right)


def _joined(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if line)
