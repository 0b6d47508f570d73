"""The village: exact probabilities, the entropy floor, one derivation per text, the same texts for the same seed."""

import math
import re
from collections import Counter

import numpy as np
import pytest

from minillm.text.unambiguous import ambiguity
from minillm.text.village import KINDS, Village
from minillm.text.village_tags import LEXICON, tagged_sentences

VILLAGE = Village(seed=3)
TWO_LANGUAGES = [(kind, "en") for kind in KINDS] + [("stories", "zh"), ("translations", "zh")]


def texts(kind, n, language="en", village=VILLAGE, start=0):
    return village._write(kind, n, start, language)


@pytest.mark.parametrize(("kind", "language"), TWO_LANGUAGES)
def test_no_text_has_two_derivations(kind, language):
    assert not ambiguity(VILLAGE.grammar(kind), language)


@pytest.mark.parametrize("kind", KINDS)
def test_every_written_text_is_read_in_one_way(kind):
    assert all(len(VILLAGE.grammar(kind).derivations(text)) == 1 for text in texts(kind, 300))


@pytest.mark.parametrize(("kind", "language"), TWO_LANGUAGES)
def test_entropy_is_the_mean_of_minus_log_p(kind, language):
    n = 1500
    nats = np.array([-VILLAGE.logprob(text, kind, language) for text in texts(kind, n, language)])
    exact_nats, exact_characters = VILLAGE.grammar(kind).measure(language)
    assert abs(nats.mean() - exact_nats) <= 3 * nats.std() / math.sqrt(n) + 1e-9
    lengths = np.array([len(text) for text in texts(kind, n, language)])
    assert abs(lengths.mean() - exact_characters) <= 3 * lengths.std() / math.sqrt(n) + 1e-9
    assert VILLAGE.entropy_per_character(kind, language) == pytest.approx(exact_nats / math.log(2) / exact_characters)


@pytest.mark.parametrize("kind", ["facts", "questions", "unknown", "sums", "steps"])
def test_probabilities_of_an_enumerable_kind_sum_to_one(kind):
    grammar = VILLAGE.grammar(kind)
    total, seen = 0.0, set()
    for script in grammar.scripts:
        assert len(script.columns) <= 2
        second = range(len(script.columns[1].probability_v)) if len(script.columns) == 2 else [0]
        for value in range(len(script.columns[0].probability_v)):
            seen |= {script.spell([value, way]) for way in second}
    total = math.fsum(math.exp(grammar.logprob(text)) for text in seen)
    assert abs(total - 1) < 1e-9
    assert len(seen) == grammar.count()


def test_texts_are_a_function_of_seed_and_number():
    again = Village(seed=3)
    for kind in KINDS:
        assert texts(kind, 5) == texts(kind, 30, village=again)[:5]
        assert texts(kind, 4, start=26) == texts(kind, 30)[26:]
    assert Village(seed=4).stories(3) != VILLAGE.stories(3)
    assert not set(VILLAGE.stories(500)) & set(VILLAGE.stories(500, start=10**9))
    assert again.dirty(20) == VILLAGE.dirty(30)[:20]


@pytest.mark.parametrize("kind", ["stories", "news", "posts", "translations"])
def test_a_changed_text_cannot_come_about(kind):
    impossible = changed = 0
    for text in texts(kind, 60):
        words = text.split(" ")
        for k in range(0, len(words) - 1, 7):
            swapped = " ".join([*words[:k], words[k + 1], words[k], *words[k + 2 :]])
            assert VILLAGE.logprob(swapped, kind) == -math.inf
            dropped = " ".join([*words[:k], *words[k + 1 :]])  # now and then still good: "has won" and "won" both are
            impossible, changed = impossible + (VILLAGE.logprob(dropped, kind) == -math.inf), changed + 1
        assert VILLAGE.logprob(text + " ", kind) == VILLAGE.logprob(text[:-1], kind) == -math.inf
        assert VILLAGE.logprob(text.lower(), kind) == -math.inf
    assert impossible >= 0.95 * changed
    assert VILLAGE.logprob("", kind) == -math.inf


def test_a_wrong_fact_late_in_the_story_is_impossible():
    """The gap that memory must bridge: what was said early decides a word near the end."""
    gaps = []
    for story in VILLAGE.stories(200):
        how = VILLAGE.explain(story)
        if how.script.name == "stories.box" and how["mood"] == 0:
            [first, last] = [match for match in re.finditer(r"\b(two|three|five|seven) times", story)]
            wrong = "two" if first[1] != "two" else "three"
            assert VILLAGE.logprob(story[: last.start()] + wrong + story[last.start() + len(last[1]) :]) == -math.inf
            gaps.append(len(story[first.end() : last.start()].split()))
    assert len(gaps) >= 5 and min(gaps) >= 40


def test_verbs_and_pronouns_agree():
    for story in VILLAGE.stories(2000):
        assert not re.search(r"\b(goats|hens|rabbits|ducks|lambs|they|apples|plums|pears|nuts) was\b", story)
        assert not re.search(
            r"\bthere (was (apples|plums|pears|nuts)|were (bread|soup|cake|cheese|honey|fish))\b", story
        )
        assert not re.search(r"\b(The (goat|hen|rabbit|duck|lamb)|it|bread|cheese|honey) were\b", story)
        child = VILLAGE.explain(story)
        name = child.script.cast["X"].forms["en"][""][child["X"]]
        assert name in story
        if VILLAGE.people[name].gender == "she":
            assert f"called {name}, who" not in story or f"a girl called {name}" in story


def test_the_stories_reach_their_size():
    grammar = VILLAGE.grammar("stories")
    assert grammar.count() >= 10**9
    assert len(grammar.vocabulary()) <= 400
    assert len(grammar.scripts) >= 6
    lengths = [len(story.split()) for story in VILLAGE.stories(1000)]
    assert min(lengths) >= 60 and max(lengths) <= 180
    moods = Counter(VILLAGE.explain(story)["mood"] for story in VILLAGE.stories(400))
    assert min(moods[0], moods[1]) > 140


def test_every_word_has_a_tag_and_tags_follow_the_story():
    assert VILLAGE.grammar("stories").vocabulary() - set(LEXICON) == {"her"}  # always marked where it stands
    sentences = VILLAGE.tagged_stories(300)
    assert all(tag for sentence in sentences for _, tag in sentence)
    assert all(sentence[-1][0] in '.!?"' for sentence in sentences)
    assert all(sentence[0][0][0] == '"' or sentence[0][0][0].isupper() for sentence in sentences)
    plain = "".join("".join(story.split()) for story in VILLAGE.stories(300))
    assert "".join(word for sentence in sentences for word, _ in sentence) == plain
    tags = {}
    for sentence in sentences:
        for word, tag in sentence:
            tags.setdefault(word.lower(), set()).add(tag)
    assert tags["her"] == {"DET", "PRON"} and tags["to"] == {"ADP", "PRT"}


def test_sentences_end_where_they_should():
    sentences = tagged_sentences(
        '"Go!" she cried. "No," said Ivan. "Why?" They sat. "Rain came," he said, "so_CONJ go. Go!"'
    )
    joined = [" ".join(word for word, _ in sentence) for sentence in sentences]
    assert joined == [
        '" Go ! " she cried .',
        '" No , " said Ivan .',
        '" Why ? "',
        "They sat .",
        '" Rain came , " he said , " so go .',
        'Go ! "',
    ]


def test_translations_are_pairs_of_one_derivation():
    pairs = VILLAGE.translations(300)
    for english, chinese in pairs:
        assert VILLAGE.logprob((english, chinese), "translations") == VILLAGE.logprob(english, "translations")
        assert re.fullmatch(r"[\u4e00-\u9fff，。]+", chinese)
    assert VILLAGE.logprob((pairs[0][0], pairs[1][1]), "translations") == -math.inf


def test_sums_are_right_and_their_steps_too():
    for text in VILLAGE.sums(300) + VILLAGE.sums(300, steps=True):
        for left, a, sign, b, total in re.findall(r"((\d+) ([+-]) (\d+)) = (\d+)", text):
            assert (int(a) + int(b) if sign == "+" else int(a) - int(b)) == int(total), left
    assert VILLAGE.logprob("12 + 7 = 20.", "sums") == -math.inf
    assert VILLAGE.logprob("12 + 7 = 19.", "sums") == pytest.approx(math.log(2 / 3 / 99**2))


def test_facts_follow_zipf_and_some_are_never_told():
    told = sorted((fact.probability for fact in VILLAGE.truth if fact.probability > 0), reverse=True)
    assert sum(told) == pytest.approx(1)
    assert told[0] / told[9] == pytest.approx(10)
    never = [fact for fact in VILLAGE.truth if fact.probability == 0]
    assert {fact.subject for fact in never} >= set(VILLAGE.world.strangers) and len(never) < len(VILLAGE.truth) / 2
    counted = Counter(VILLAGE.facts(400))
    assert max(counted.values()) > 20 and min(counted.values()) == 1
    everything = "\n".join(text for kind in KINDS if kind != "unknown" for text in texts(kind, 2000))
    for fact in never:
        assert fact.question not in everything
        assert not any(statement in everything for statement in fact.statements)
    assert not any(re.search(rf"\b{name}\b", everything) for name in VILLAGE.world.strangers)


def test_questions_have_the_answers_of_the_world():
    answers = {fact.question: fact.answer for fact in VILLAGE.truth}
    for text in VILLAGE.questions(200):
        question, answer = text.split("\n")
        assert answers[question] == answer
    assert {text.split("\n")[1] for text in VILLAGE.questions(50, known=False)} == {"Nobody has told me."}


def test_the_world_holds_together():
    people = VILLAGE.people
    assert len(people) == 40
    for person in people.values():
        if person.child:
            mother, father, sibling = people[person.mother], people[person.father], people[person.sibling]
            assert (mother.gender, father.gender) == ("she", "he") and sibling.gender != person.gender
            assert person.home == mother.home == father.home == sibling.home
    triples = VILLAGE.world.triples
    assert ("baker", "works at", "bakery") in triples and len(triples) == len(set(triples))
    assert all(len(pairs) >= 4 for pairs in VILLAGE.world.analogies.values())


def test_news_and_posts_overlap_and_the_limit_is_known():
    right, n = 0, 1000
    for kind, other in (("news", "posts"), ("posts", "news")):
        for text in texts(kind, n):
            here, there = VILLAGE.logprob(text, kind), VILLAGE.logprob(text, other)
            right += 1.0 if here > there else 0.5 if here == there else 0.0
    assert 0.9 < right / (2 * n) < 0.99
    one, two = (VILLAGE.grammar(kind).vocabulary() for kind in ("news", "posts"))
    assert len(one & two) > len(one | two) / 2


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Village(seed=-1),
        lambda: Village(seed=0, families=3),
        lambda: Village(seed=0, families=17),
        lambda: VILLAGE.stories(-1),
        lambda: VILLAGE.stories(2, language="fr"),
        lambda: VILLAGE.facts(2, start=-5),
        lambda: VILLAGE.logprob("x", kind="poems"),
    ],
)
def test_bad_input_is_named(wrong):
    with pytest.raises(ValueError, match="="):
        wrong()
    assert VILLAGE.stories(0) == []
