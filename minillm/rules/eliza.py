"""Eliza: a program that seems to listen, made of keywords, patterns and replies, with nothing understood.

    sentence -> cut at the first comma or full stop that helps
             -> keywords, the highest rank in front
             -> swap I and you
             -> the first pattern that fits splits the sentence into parts
             -> its next reply, in rotation, puts parts back together

When no keyword is found, Eliza returns to something said before, if she kept it (the memory), or says something
that fits anywhere.

Paper:   Weizenbaum 1966, "ELIZA: A Computer Program for the Study of Natural Language Communication Between
         Man and Machine", Communications of the ACM 9(1), pp. 36-45.
Names:   decompose = decomposition rule, reassemble = reassembly rule, keystack = the list of keywords found.
Differs: the memory speaks at the first sentence without a keyword (the paper adds a counter), and memory rules are
         tried in order (the program took one at random); more delimiters than comma and full stop; words keep their
         capitals; every reply carries a trace; a pattern is matched without backtracking, in linear time.
Next:    minillm/rules/rulebook.py
"""

import re
import unicodedata
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minillm.rules.script import Action, Pattern, Rule, Script, load_script, parse_pattern, part_numbers

DELIMITERS = ".,;:!?…\n。，；：！？"
"""Where a sentence is cut: Eliza reads one clause, not a paragraph."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer, and how it came about."""

    text: str
    keyword: str | None  # the keyword that answered; None for the memory and for 'none'
    pattern: str | None  # its pattern as it stands in the script
    parts: tuple[str, ...]  # what each element of the pattern matched
    trace: tuple[str, ...]  # one line for each step, for the reader

    def __str__(self) -> str:
        return self.text


class Eliza:
    """A conversation with a script. The same sentences in the same order always get the same replies.

    >>> eliza = Eliza()
    >>> eliza.reply("I remember the old mill.")
    'What made you think of the old mill today?'
    >>> eliza.reply("I remember the old mill.")
    'Who was with you then?'
    >>> eliza.respond("You remember nothing").parts
    ('', 'I', 'remember', 'nothing')
    """

    def __init__(self, script: Script | None = None) -> None:
        self.script = load_script() if script is None else script
        self.reset()

    def reset(self) -> None:
        """Forget the conversation: rotations start again and the memory is empty."""
        self.turns: Counter[int] = Counter()  # line of a rule -> how often it has acted
        self.memory: deque[str] = deque()

    def reply(self, text: str) -> str:
        """The answer alone."""
        return self.respond(text).text

    def respond(self, text: str) -> Reply:
        """Answer one message (any string), with a trace of the rules that fired."""
        words, found = scan(text, self.script.ranks)
        trace = [f"read      {' '.join(words) or '(no words)'}", f"keywords  {', '.join(found) or '(none)'}"]
        words = swap(words, self.script.swaps)
        trace.append(f"swapped   {' '.join(words) or '(no words)'}")
        if found and found[0] in self.script.memory:
            self._remember(found[0], words, trace)
        for key in found:
            reply = self._obey(key, words, trace)
            if reply is not None:
                return reply
        if self.memory and not found:
            return self._finish(self.memory.popleft(), None, None, (), [*trace, "memory    says what was kept"])
        rule = self.script.none
        return self._finish(self._next_action(rule).text, None, None, (), [*trace, "none      nothing fits"])

    def _obey(self, key: str, words: list[str], trace: list[str]) -> Reply | None:
        """Follow a keyword's rules, through goto and rewrite, until something is said."""
        visited: set[str] = set()
        while key not in visited:  # a circle of gotos ends here, and the next keyword gets its chance
            visited.add(key)
            for rule in self.script.rules[key]:
                parts = decompose(rule.pattern, words)
                if parts is not None:
                    break
            else:
                trace.append(f"{key:<9} no pattern fits")
                return None
            action = self._next_action(rule)
            trace.append(f"{key:<9} fits {rule.source!r}; {action}")
            if action.kind == "say":
                said = tuple(" ".join(part) for part in parts)
                return self._finish(reassemble(action.text, parts), key, rule.source, said, trace)
            if action.kind == "next":
                return None
            if action.kind == "rewrite":
                words = reassemble(action.text, parts).split()
            key = action.target
        trace.append(f"{key:<9} was tried before in this turn")
        return None

    def _remember(self, key: str, words: list[str], trace: list[str]) -> None:
        for rule in self.script.memory[key]:
            parts = decompose(rule.pattern, words)
            if parts is not None:
                self.memory.append(reassemble(self._next_action(rule).text, parts))
                trace.append(f"memory    keeps {self.memory[-1]!r}")
                return

    def _next_action(self, rule: Rule) -> Action:
        action = rule.actions[self.turns[rule.line] % len(rule.actions)]
        self.turns[rule.line] += 1
        return action

    def _finish(
        self, said: str, keyword: str | None, pattern: str | None, parts: tuple[str, ...], trace: list[str]
    ) -> Reply:
        text = said[:1].upper() + said[1:]
        return Reply(text=text, keyword=keyword, pattern=pattern, parts=parts, trace=(*trace, f"says      {text}"))


def scan(text: str, ranks: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Find the clause to answer and its keywords: (words, keystack).

    Up to the first keyword, a delimiter throws away what came before it; after a keyword, what follows it.
    A keyword that outranks the front of the stack goes to the front, any other to the back.

    >>> scan("Well, my dog likes you, I think.", {"my": 2, "dog": 5, "i": 0})
    (['my', 'dog', 'likes', 'you'], ['dog', 'my'])
    """
    clause: list[str] = []
    keystack: list[str] = []
    for clause in clauses(text):
        for word in map(str.casefold, clause):
            if word not in ranks or word in keystack:
                continue
            if keystack and ranks[word] > ranks[keystack[0]]:
                keystack.insert(0, word)
            else:
                keystack.append(word)
        if keystack:
            break
    return clause, keystack


def clauses(text: str) -> list[list[str]]:
    """Cut a text into clauses of words; a capital that only opens a sentence is made small.

    >>> clauses("Hello! My dog (the one called Rolf) bit me...")
    [['hello'], ['my', 'dog', 'the', 'one', 'called', 'Rolf', 'bit', 'me']]
    """
    text = unicodedata.normalize("NFC", text).replace("’", "'")
    found = []
    for piece in re.split(f"[{re.escape(DELIMITERS)}]+", text):
        words = [bare for word in piece.split() if (bare := _strip_marks(word))]
        if words:
            if words[0][1:] == words[0][1:].casefold():
                words[0] = words[0].casefold()
            found.append(words)
    return found


def _strip_marks(word: str) -> str:
    """Take away punctuation and symbols around a word; letters, digits and accents stay."""
    first, last = 0, len(word)
    while first < last and unicodedata.category(word[first])[0] in "PSC":
        first += 1
    while last > first and unicodedata.category(word[last - 1])[0] in "PSC":
        last -= 1
    return word[first:last]


def swap(words: Sequence[str], table: Mapping[str, Sequence[str]]) -> list[str]:
    """Exchange the persons, each word once: a word that has been swapped is not swapped back.

    >>> swap(["i", "like", "you"], {"i": ("you",), "you": ("I",)})
    ['you', 'like', 'I']
    """
    return [new for word in words for new in table.get(word.casefold(), (word,))]


def decompose(pattern: Pattern | str, words: Sequence[str]) -> list[list[str]] | None:
    """Split words into one part for each element of the pattern, or None when the pattern does not fit.

    Each 0 takes as few words as it can, from the left. No backtracking is needed: between two zeros every
    piece of a pattern has a fixed length, and its leftmost place is always as good as any later one.

    >>> decompose("0 you remember 0", "sometimes you remember the mill".split())
    [['sometimes'], ['you'], ['remember'], ['the', 'mill']]
    >>> decompose("you 1", ["you", "remember", "me"]) is None
    True
    """
    if isinstance(pattern, str):
        pattern = parse_pattern(pattern)
    folded = [word.casefold() for word in words]
    pieces: list[list[int | frozenset[str]]] = [[]]
    for element in pattern:
        if element == 0:
            pieces.append([])
        else:
            pieces[-1].append(element)
    parts: list[list[str]] = []
    end = 0  # how many words have been given out
    for index, piece in enumerate(pieces):
        last = len(words) - sum(_width(element) for element in piece)  # the last place where this piece could stand
        first = 0 if index == 0 else last if index == len(pieces) - 1 else end
        places = range(max(first, end), (0 if index == 0 else last) + 1)
        place = next((place for place in places if place <= last and _fits(piece, folded, place)), None)
        if place is None:
            return None
        if index > 0:
            parts.append(list(words[end:place]))  # the 0 before this piece
        for element in piece:
            parts.append(list(words[place : place + _width(element)]))
            place += _width(element)
        end = place
    return parts if end == len(words) else None


def _width(element: int | frozenset[str]) -> int:
    return element if isinstance(element, int) else 1


def _fits(piece: Sequence[int | frozenset[str]], folded: Sequence[str], place: int) -> bool:
    for element in piece:
        if not isinstance(element, int) and folded[place] not in element:
            return False
        place += _width(element)
    return True


def reassemble(reply: str, parts: Sequence[Sequence[str]]) -> str:
    """Put parts into a reply: {2} stands for the second part.

    >>> reassemble("Why do you think {3} is {4}?", [[], ["you"], ["the", "mill"], ["old"]])
    'Why do you think the mill is old?'
    """
    if wrong := [number for number in part_numbers(reply) if not 1 <= number <= len(parts)]:
        raise ValueError(
            f"reply={reply!r} uses {{{wrong[0]}}}, but there are {len(parts)} parts; use {{1}} to {{{len(parts)}}}"
        )
    filled = re.sub(r"\{([0-9]+)\}", lambda number: " ".join(parts[int(number[1]) - 1]), reply)
    return re.sub(r"\s+([?.!,;])", r"\1", " ".join(filled.split()))
