"""The task of chapter 17: halves without a shared family, answers judged right, stored rates that come again."""

import pytest
import torch

from minillm.course import village_exam
from minillm.course.village_exam import METHODS, VillageExam, adapted, learn, stored_rates, tried


@pytest.fixture(scope="module")
def exam():
    torch.set_num_threads(1)
    return VillageExam()


@pytest.mark.parametrize("seed", range(4))
def test_no_family_is_in_both_halves(exam, seed):
    family = {name: person.family for name, person in exam.village.people.items()}
    lessons, asked = exam.halves(seed)
    assert not {family[f.subject] for f in lessons} & {family[f.subject] for f in asked}
    assert sorted(f.question for f in lessons + asked) == sorted(f.question for f in exam.told)
    assert 80 < len(asked) < 120 and exam.halves(seed) == (lessons, asked) != exam.halves(seed + 1)


def test_the_base_reads_no_answer(exam):
    texts = "\n".join(exam.texts)
    assert not any(f"{fact.question} {fact.answer}" in texts for fact in exam.told)
    assert all(texts.count(statement) >= 3 for fact in exam.told for statement in fact.statements)
    assert all(texts.count(fact.question) >= 2 for fact in exam.village.truth)


def test_lessons_ask_about_one_half_and_score_the_answer(exam):
    lessons = exam.lessons(1)
    own = {fact.question: fact.answer for fact in exam.halves(1)[0]}
    assert len(lessons) == village_exam.STEPS and all(len(batch.token_bt) <= village_exam.ROWS for batch in lessons)
    for batch in lessons[:3]:
        for tokens, scored, targets in zip(batch.token_bt, batch.scored_bt, batch.target_bt, strict=True):
            answer = exam.tokenizer.decode(targets[scored].tolist()[:-1])
            first = int(scored.nonzero()[0])
            question = exam.tokenizer.decode(tokens[1 : first + 1].tolist())
            assert own[question] == answer and targets[scored][-1] == exam.end


def test_right_is_the_thing_in_its_sentence(exam, monkeypatch):
    fact = next(fact for fact in exam.told if fact.relation == "lives by")
    he, she = (f"{word} lives by the {fact.object}." for word in ("He", "She"))
    for said, right in ((he, True), (she, True), (fact.object, False), ("", False), (he[:-1], False),
                        (he + " He", False), (f"He lives by the {fact.object}s.", False)):  # fmt: skip
        monkeypatch.setattr(exam, "say", lambda model, texts, said=said: [said])
        assert exam.right(None, [fact]) == [right], said


def test_the_guesser_learns_from_the_lessons_alone(exam):
    lessons, asked = exam.halves(2)
    guessed = exam.guessed(2)
    assert len(guessed) == len(asked) and 0 <= sum(guessed) / len(guessed) < 0.2
    usual = {f.object for f, right in zip(asked, guessed, strict=True) if right}
    assert usual <= {f.object for f in lessons}


def test_the_base_knows_and_does_not_answer(exam):
    assert exam.knows(exam.base, exam.told) > 0.95
    assert not any(exam.right(exam.base, exam.told))


@pytest.mark.parametrize(("method", "rate"), [("LoRA", 2e-3), ("prompt tuning", 1e-1)])
def test_the_stored_rates_come_again(exam, method, rate):
    """In a band: other machines add in other orders, and a hundred steps make that larger."""
    assert tried(exam, method, rate) == pytest.approx(stored_rates()[method][rate], abs=0.12)


def test_the_stored_rates_are_those_of_the_methods():
    stored = stored_rates()
    assert {name: list(rates) for name, (_, rates) in METHODS.items()} == {n: list(r) for n, r in stored.items()}
    assert len({len(rates) for rates in stored.values()}) == 1, "as many tries for one method as for another"
    for name, found in stored.items():
        best = max(found, key=found.__getitem__)
        assert name == "prompt tuning" or min(found) < best < max(found), f"{name}: the best lies at an edge"


@pytest.mark.parametrize("method", METHODS)
def test_a_method_leaves_the_base_as_it_was_and_learns(exam, method):
    before = [p.detach().clone() for p in exam.base.parameters()]
    model = adapted(exam.base, method, seed=0)
    first = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    learn(model, exam.lessons(0)[:2], rate=1e-3)
    now = [p for p in model.parameters() if p.requires_grad]
    assert any(not torch.equal(a, b) for a, b in zip(first, now, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, exam.base.parameters(), strict=True))
