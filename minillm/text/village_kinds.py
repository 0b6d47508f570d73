"""What may stand in a slot: the forms of people, things and facts, in each language.

The third language, "tags", is English with the part of speech left on the words that have more than one ("her_DET bell",
"with her_PRON").

Next:    minillm/text/village_stories.txt
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minillm.text import village_words as words
from minillm.text.grammar import Kind
from minillm.text.village_world import Fact, Person, World

NAMES = words.WOMEN | words.MEN
PRONOUNS = {
    "she": {"he": "she", "He": "She", "him": "her_PRON", "his": "her_DET", "His": "Her_DET"},
    "he": {"he": "he", "He": "He", "him": "him", "his": "his_DET", "His": "His_DET"},
}


def kinds_of(world: World) -> dict[str, Kind]:
    """Build every kind of word that a cast may name. A cast has people of whom something is told, never strangers."""
    children = [person for person in world.known if person.child]
    adults = [person for person in world.known if not person.child]
    return {
        "child": _people(children, _of_child),
        "adult": _people(adults, _of_adult),
        "person": _people(world.known, lambda person: {}),
        "animal": _things(words.ANIMALS),
        "thing": _things(words.THINGS),
        "food": _pairs(words.FOODS),
        "colour": _pairs(words.COLOURS),
        "home": _pairs(words.HOMES),
        "place": _pairs({job.place: job.zh_place for job in words.JOBS.values()}),
        "fact": _facts(world.facts),
    }


def _people(people: Sequence[Person], more: Callable[[Person], dict[str, tuple[str, str]]]) -> Kind:
    """Forms as (English, Chinese); the English may carry marks of parts of speech."""
    rows = []
    for person in people:
        he = "她" if person.gender == "she" else "他"
        chinese = {"he": he, "He": he, "him": he, "his": he + "的", "His": he + "的"}
        forms = {form: (word, chinese[form]) for form, word in PRONOUNS[person.gender].items()}
        forms |= {"": (person.name, NAMES[person.name]), "home": (person.home, words.HOMES[person.home])}
        rows.append(forms | more(person))
    return _kind(rows)


def _of_child(person: Person) -> dict[str, tuple[str, str]]:
    girl = person.gender == "she"
    return {
        "boy": ("girl", "女孩") if girl else ("boy", "男孩"),
        "sister": ("brother", "哥哥") if girl else ("sister", "姐姐"),
        "sibling": (person.sibling, NAMES[person.sibling]),
        "mother": (person.mother, NAMES[person.mother]),
        "father": (person.father, NAMES[person.father]),
    }


def _of_adult(person: Person) -> dict[str, tuple[str, str]]:
    job = words.JOBS[person.job]
    return {
        "man": ("woman", "女人") if person.gender == "she" else ("man", "男人"),
        "job": (person.job, job.zh),
        "work": (job.place, job.zh_place),
    }


def _things(things: dict[str, words.Thing]) -> Kind:
    return _kind([{"": (name, thing.zh), "s": (thing.plural, thing.zh), "m": ("", thing.measure)} for name, thing in things.items()])


def _pairs(pairs: dict[str, str]) -> Kind:
    return _kind([{"": pair} for pair in pairs.items()])


def _facts(facts: Iterable[Fact]) -> Kind:
    """A fact is drawn with its own probability; facts that nobody tells stay out."""
    told = [fact for fact in facts if fact.probability > 0]
    forms: dict[str, Any] = {str(k): [fact.statements[k] for fact in told] for k in (0, 1)}
    forms |= {"question": [fact.question for fact in told], "answer": [fact.answer for fact in told]}
    return Kind({"en": forms, "tags": forms}, tuple(fact.probability for fact in told))


def _kind(rows: Sequence[dict[str, tuple[str, str]]]) -> Kind:
    marked = {form: [row[form][0] for row in rows] for form in rows[0]}
    plain = {form: [word.split("_")[0] for word in words_] for form, words_ in marked.items()}
    return Kind({"en": plain, "tags": marked, "zh": {form: [row[form][1] for row in rows] for form in rows[0]}})
