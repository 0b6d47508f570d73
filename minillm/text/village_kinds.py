"""What may stand in a slot: the forms of people, things and facts, in each language.

The third language, "tags", is English with the part of speech left on the words that have more than one ("her_DET
bell", "with her_PRON").

Next:    minillm/text/village_stories.txt
"""

from collections.abc import Callable, Sequence

from minillm.text import village_words as words
from minillm.text.grammar import Kind
from minillm.text.village_world import Fact, Person, World

Forms = dict[str, Sequence[str]]
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
        "herd": _things({name: words.ANIMALS[name] for name in words.HERD}),
        "thing": _things(words.THINGS),
        "food": _foods(words.FOODS),
        "dish": _foods({name: words.FOODS[name] for name in words.DISHES}),
        "colour": _pairs(words.COLOURS),
        "home": _pairs(words.HOMES),
        "shore": _pairs({name: words.HOMES[name] for name in words.SHORES}),
        "place": _pairs({job.place: job.zh_place for job in words.JOBS.values()}),
        "fact": _facts([fact for fact in world.facts if fact.probability > 0]),
        "secret": _facts([fact for fact in world.facts if fact.probability == 0]),
        "addition": _sums([(a, b) for a in range(1, 100) for b in range(1, 100)], "+"),
        "subtraction": _sums([(a, b) for a in range(1, 100) for b in range(1, a + 1)], "-"),
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
    return _kind(
        [
            {"": (name, thing.zh), "s": (thing.plural, thing.zh), "m": ("", thing.measure)}
            for name, thing in things.items()
        ]
    )


def _foods(foods: dict[str, str]) -> Kind:
    """Food with its verb: plums were, bread was."""
    return _kind([{"": pair, "was": ("were" if pair[0].endswith("s") else "was", "")} for pair in foods.items()])


def _pairs(pairs: dict[str, str]) -> Kind:
    return _kind([{"": pair} for pair in pairs.items()])


def _facts(facts: Sequence[Fact]) -> Kind:
    """A fact is drawn with its own probability; those that nobody tells are equally likely."""
    forms: Forms = {str(k): [fact.statements[k] for fact in facts] for k in (0, 1)}
    forms |= {"question": [fact.question for fact in facts], "answer": [fact.answer for fact in facts]}
    told = facts[0].probability > 0
    return Kind({"en": forms, "tags": forms}, tuple(fact.probability for fact in facts) if told else None)


def _sums(pairs: Sequence[tuple[int, int]], sign: str) -> Kind:
    """Two numbers and a sign, with the total and the way to it."""
    forms: Forms = {
        "": [f"{a} {sign} {b}" for a, b in pairs],
        "total": [str(a + b if sign == "+" else a - b) for a, b in pairs],
        "steps": [", ".join(adding(a, b) if sign == "+" else taking(a, b)) for a, b in pairs],
    }
    return Kind({"en": forms, "tags": forms})


def adding(a: int, b: int) -> list[str]:
    """Add in steps: ones, tens, both.

    >>> adding(48, 37)
    ['8 + 7 = 15', '40 + 30 = 70', '70 + 15 = 85']
    >>> adding(12, 7)
    ['2 + 7 = 9', '10 + 9 = 19']
    """
    tens, ones = a // 10 * 10 + b // 10 * 10, a % 10 + b % 10
    steps = [f"{a % 10} + {b % 10} = {ones}"]
    if a >= 10 and b >= 10:
        steps.append(f"{a // 10 * 10} + {b // 10 * 10} = {tens}")
    return [*steps, f"{tens} + {ones} = {a + b}"] if tens else steps


def taking(a: int, b: int) -> list[str]:
    """Take away in steps: tens, then ones.

    >>> taking(52, 17)
    ['52 - 10 = 42', '42 - 7 = 35']
    """
    tens = b // 10 * 10
    steps = [f"{a} - {tens} = {a - tens}"] if tens else []
    return [*steps, f"{a - tens} - {b % 10} = {a - b}"]


def _kind(rows: Sequence[dict[str, tuple[str, str]]]) -> Kind:
    marked: Forms = {form: [row[form][0] for row in rows] for form in rows[0]}
    chinese: Forms = {form: [row[form][1] for row in rows] for form in rows[0]}
    plain: Forms = {form: [word.split("_")[0] for word in words_] for form, words_ in marked.items()}
    return Kind({"en": plain, "tags": marked, "zh": chinese})
