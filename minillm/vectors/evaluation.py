"""Are the vectors right? Analogies and neighbours, against what is known to be true.

    accuracy = share of the questions a : b = c : ?, one for each two pairs of a relation, whose first answer is right

In the village the truth is known (`World.analogies`). Two relations show in what the words of a pair stand beside: job
and place (people ask "the librarian", and go "to the library"), and gender. Two do not. Exchange "goats" and "hens",
and every story stays as probable as it was, so no text can tell which plural goes with which animal. A person's home
is a single fact, not a direction that all pairs share. Expect little of these two, however long the training.

Paper:   Mikolov, Yih and Zweig 2013, "Linguistic Regularities in Continuous Space Word Representations", §4; why
         offsets mislead: Linzen 2016, "Issues in Evaluating Semantic Spaces Using Word Analogies".
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations

from minillm.vectors.word_vectors import WordVectors


def sentences_of(texts: Iterable[str]) -> list[list[str]]:
    """Cut texts into sentences at . ! ? and these into lower-case words, without punctuation.

    >>> sentences_of(["Lena is a smith. Where is she?"])
    [['lena', 'is', 'a', 'smith'], ['where', 'is', 'she']]
    """
    if isinstance(texts, str):
        raise ValueError("texts is one string; give a list of texts, such as [text]")
    cut = (
        re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", part.lower()) for text in texts for part in re.split(r"[.!?]", text)
    )
    return [words for words in cut if words]


def analogy_questions(pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, str, str]]:
    """Make every question a : b = c : d of two pairs, in lower case; pairs that share a word make none.

    >>> list(analogy_questions([("boy", "girl"), ("He", "she")]))
    [('boy', 'girl', 'he', 'she'), ('he', 'she', 'boy', 'girl')]
    """
    for (a, b), (c, d) in permutations([(x.lower(), y.lower()) for x, y in pairs], 2):
        if len({a, b, c, d}) == 4:
            yield a, b, c, d


def analogy_accuracy(
    vectors: WordVectors, pairs: Sequence[tuple[str, str]], candidates: Iterable[str] | None = None
) -> float:
    """Return the share of right first answers, among all words, or among `candidates` (the easier question)."""
    questions = list(analogy_questions(pairs))
    if not questions:
        raise ValueError(
            f"pairs={list(pairs)[:3]!r} makes no question; give two pairs or more with four different words"
        )
    if candidates is None:
        return sum(vectors.analogy(a, b, c)[0][0] == d for a, b, c, d in questions) / len(questions)
    allowed = {word.lower() for word in candidates}
    answers = (
        (next((word for word, _ in vectors.analogy(a, b, c, len(vectors)) if word in allowed), None), d)
        for a, b, c, d in questions
    )
    return sum(answer == d for answer, d in answers) / len(questions)


def neighbour_accuracy(vectors: WordVectors, groups: Iterable[Iterable[str]]) -> float:
    """Return the share of words whose nearest neighbour belongs to their group, over the words of all groups.

    Words that have no vector do not count.
    """
    lower = [{word.lower() for word in group if word.lower() in vectors} for group in groups]
    right = [vectors.most_similar(word, 1)[0][0] in group for group in lower for word in sorted(group)]
    if not right:
        raise ValueError("groups has no word that has a vector; give groups of words of the training text")
    return sum(right) / len(right)
