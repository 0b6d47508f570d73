"""Who lives in the village: families, homes, jobs, pets and likes, drawn once from a seed.

The world is a list of facts (subject, relation, object). Some are stated often, some rarely, some never: the fact of
rank r is stated with probability proportional to 1/r, and the facts that nobody tells have probability 0.

    p(r) = (1/r) / Σ 1/r'

Paper:   Zipf 1949, "Human Behavior and the Principle of Least Effort": frequency falls as one over rank.
Next:    minillm/text/village_words.py
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from minillm.text import village_words as words
from minillm.text.dice import Dice

FAMILIES = len(words.WOMEN) // 2  # a mother, a father, a daughter and a son need two names of each list
STRANGERS = 2  # families of whom nothing is ever told


@dataclass(frozen=True, slots=True)
class Person:
    """All that is true of a person; `job` is "" for a child, and `pet`, `mother`, `father`, `sibling` for a parent."""

    name: str
    gender: str  # "she" or "he"
    family: int
    home: str
    likes: str
    job: str = ""
    pet: str = ""
    mother: str = ""
    father: str = ""
    sibling: str = ""

    @property
    def child(self) -> bool:
        """Is this a daughter or a son?"""
        return not self.job

    @property
    def work(self) -> str:
        """The place where the person works, "" for a child."""
        return words.JOBS[self.job].place if self.job else ""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something true, how often `Village.facts` states it, and how one asks for it."""

    subject: str
    relation: str
    object: str
    probability: float
    statements: tuple[str, str]
    question: str
    answer: str

    @property
    def triple(self) -> tuple[str, str, str]:
        """(subject, relation, object), for a system of rules."""
        return self.subject, self.relation, self.object


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is true in one village.

    >>> world = World.draw(seed=0, families=10)
    >>> len(world.people), len({person.home for person in world.people.values()})
    (40, 10)
    """

    people: dict[str, Person]
    strangers: tuple[str, ...]
    facts: tuple[Fact, ...] = field(repr=False)

    @classmethod
    def draw(cls, seed: int, families: int) -> "World":
        """Draw a world; `families` is 4 to 16, each of four people."""
        if not STRANGERS + 2 <= families <= FAMILIES:
            raise ValueError(
                f"families={families!r} must be from {STRANGERS + 2} to {FAMILIES} (there are no more names); 10 works"
            )
        dice = Dice(seed, 0)
        shuffled = dice.shuffled
        women, men, homes = shuffled(list(words.WOMEN)), shuffled(list(words.MEN)), shuffled(list(words.HOMES))
        jobs = [job for _ in range(-(-2 * families // len(words.JOBS))) for job in shuffled(list(words.JOBS))]
        foods = [food for _ in range(-(-4 * families // len(words.FOODS))) for food in shuffled(list(words.FOODS))]
        pets = [pet for _ in range(-(-2 * families // len(words.ANIMALS))) for pet in shuffled(list(words.ANIMALS))]
        people: dict[str, Person] = {}
        for family in range(families):
            (mother, daughter), (father, son) = (names[2 * family : 2 * family + 2] for names in (women, men))
            home = homes[family % len(homes)]
            for gender, name in (("she", mother), ("he", father)):
                people[name] = Person(name, gender, family, home, foods.pop(), job=jobs.pop())
            for gender, name, sibling in (("she", daughter, son), ("he", son, daughter)):
                people[name] = Person(name, gender, family, home, foods.pop(), "", pets.pop(), mother, father, sibling)
        strangers = tuple(name for name, person in people.items() if person.family >= families - STRANGERS)
        return cls(people, strangers, tuple(_facts(people, strangers, dice)))

    @property
    def known(self) -> list[Person]:
        """The people who occur in texts: all but the strangers."""
        return [person for name, person in self.people.items() if name not in self.strangers]

    @property
    def triples(self) -> list[tuple[str, str, str]]:
        """All facts, and where each job is done, as (subject, relation, object)."""
        return [fact.triple for fact in self.facts] + [
            (job, "works at", entry.place) for job, entry in words.JOBS.items()
        ]

    @property
    def analogies(self) -> dict[str, list[tuple[str, str]]]:
        """Pairs of words in the same relation: any two pairs of a list make a question a : b = c : d."""
        return {
            "job-place": [(job, entry.place) for job, entry in words.JOBS.items()],
            "person-home": [(person.name, person.home) for person in self.known],
            "plural": [(name, words.ANIMALS[name].plural) for name in words.HERD],
            "gender": [("he", "she"), ("his", "her"), ("boy", "girl"), ("brother", "sister"), ("father", "mother")],
        }


def _facts(people: dict[str, Person], strangers: tuple[str, ...], dice: Dice) -> Iterator[Fact]:
    """State what is true; every fourth like and pet is told by nobody, nor is anything about strangers."""
    triples = [triple for person in people.values() for triple in _triples(person)]
    hidden = {i for i, (name, relation, _) in enumerate(triples) if name in strangers}
    private = [i for i, (_, relation, _) in enumerate(triples) if relation in ("likes", "has") and i not in hidden]
    hidden |= set(dice.shuffled(private)[: len(private) // 4])
    told = [i for i in range(len(triples)) if i not in hidden]
    weight = dict.fromkeys(hidden, 0.0) | {i: 1 / (rank + 1) for rank, i in enumerate(dice.shuffled(told))}
    total = sum(weight.values())
    for i, (name, relation, thing) in enumerate(triples):
        yield Fact(name, relation, thing, weight[i] / total, *_phrases(people[name], relation, thing))


def _triples(person: Person) -> Iterator[tuple[str, str, str]]:
    yield person.name, "lives by", person.home
    yield person.name, "likes", person.likes
    if person.child:
        yield person.name, "has", person.pet
        yield person.name, "mother", person.mother
        yield person.name, "father", person.father
    else:
        yield person.name, "is a", person.job


def _phrases(person: Person, relation: str, thing: str) -> tuple[tuple[str, str], str, str]:
    """Two statements, a question and its answer."""
    name, he = person.name, person.gender.capitalize()
    if relation == "lives by":
        home = f"The home of {name} is by the {thing}."
        return (f"{name} lives by the {thing}.", home), f"Where does {name} live?", f"{he} lives by the {thing}."
    if relation == "is a":
        place = f"{name} works as a {thing}."
        return (f"{name} is a {thing}.", place), f"What is the work of {name}?", f"{he} is a {thing}."
    if relation == "likes":
        best = f"What {name} likes to eat is {thing}."
        return (f"{name} likes {thing}.", best), f"What does {name} like to eat?", f"{he} likes {thing}."
    if relation == "has":
        belongs = f"There is a {thing} that belongs to {name}."
        return (f"{name} has a {thing}.", belongs), f"What animal does {name} have?", f"{he} has a {thing}."
    child = words.CHILD[person.gender]
    parent = f"{name} is the {child} of {thing}."  # the name of a parent tells a learner of rules who is the mother
    return (f"The {relation} of {name} is {thing}.", parent), f"Who is the {relation} of {name}?", f"It is {thing}."
