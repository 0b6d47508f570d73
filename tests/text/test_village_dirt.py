"""The planted dirt: everything that was planted is recorded, and nothing else."""

import re
from collections import Counter

import pytest

from minillm.text.village import Village
from minillm.text.village_dirt import PERSONAL

DOCUMENTS = Village(seed=5).dirty(500)
KINDS = ("markup", "boilerplate", "noise", *PERSONAL)


def without(document, kinds):
    text = document.text
    for item in reversed(document.planted):
        if item.kind in kinds:
            text = text[: item.start] + text[item.end :]
    return "\n".join(line for line in text.split("\n") if line)


def shingles(text, size=3):
    words = text.lower().split()
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def root(k):
    return k if DOCUMENTS[k].copy_of is None else DOCUMENTS[k].copy_of


def test_each_piece_lies_where_the_record_says():
    for document in DOCUMENTS:
        end = 0
        for item in document.planted:
            assert item.start >= end and document.text[item.start : item.end] == item.string != ""
            end = item.end
    assert {item.kind for document in DOCUMENTS for item in document.planted} == set(KINDS)


def test_taking_the_dirt_away_leaves_the_text_as_written():
    for document in DOCUMENTS:
        assert without(document, ("markup", "boilerplate", "noise")) == document.clean
        assert document.junk == (document.clean == "")


def test_masking_leaves_no_personal_data_and_every_decoy():
    for document in DOCUMENTS:
        masked = document.masked()
        personal = [item for item in document.planted if item.kind in PERSONAL]
        assert not any(item.string in masked for item in personal)
        assert sum(masked.count(f"<{kind}>") for kind in PERSONAL) == len(personal)
        assert all(decoy in masked for decoy in document.decoys)
        assert "@example" not in masked


def test_copies_are_copies_and_nothing_else_is_near():
    kinds = Counter(document.copy for document in DOCUMENTS)
    assert kinds["exact"] > 25 and kinds["near"] > 25 and sum(document.junk for document in DOCUMENTS) > 10
    pieces = [shingles(document.clean) for document in DOCUMENTS]
    for k, document in enumerate(DOCUMENTS):
        if document.copy_of is not None:
            assert document.copy_of < k and not DOCUMENTS[document.copy_of].copy
        assert (document.copy == "exact") == (document.text in [other.text for other in DOCUMENTS[:k]])
        for j in range(k):
            if document.junk or DOCUMENTS[j].junk:
                continue
            likeness = len(pieces[k] & pieces[j]) / len(pieces[k] | pieces[j])
            assert likeness >= 0.7 if root(k) == root(j) else likeness <= 0.6


@pytest.mark.parametrize("kind", PERSONAL)
def test_personal_data_is_invented(kind):
    strings = [item.string for document in DOCUMENTS for item in document.planted if item.kind == kind]
    reserved = {
        "email": r".*@(example\.org|mail\.example\.com|example\.net|village\.example)",
        "phone": r".*(555-01\d\d|20 7946 01\d\d)",
        "id": r"987-65-\d{4}|000000\d{12}|0000 \d{4} \d{4} \d{4}",
    }[kind]
    assert len(set(strings)) > 50
    assert all(re.fullmatch(reserved, string) for string in strings)
