"""minillm: the road of language models, from rules to RLHF, small enough to read and run on a laptop.

The files in the order of history, which is also the only direction of imports: a file may import its own
folder and the layers above it in this list. A test holds that, and that this map names exactly the files there are.

layer 0  core          what everything stands on
    core/notation.py            the letters for axes, and the checker of their promises
    core/runtime.py             device, number format and seed, each with the reason for it

layer 1  text          where text comes from and how it becomes numbers
    text/village.py             Village: a generated little world whose every text has a known probability
    text/village_world.py       who lives there, and what is true: families, facts told often, rarely, never
    text/village_words.py       its words, in English and Chinese
    text/village_kinds.py       the forms of its people and things that a template may name
    text/village_tags.py        the part of speech of every word of its stories
    text/village_dirt.py        its texts as the web would have them, with the truth of what was planted
    text/grammar.py             Grammar: one object that writes, reads and measures texts
    text/grammar_nodes.py       the parts of a compiled grammar
    text/grammar_templates.py   the notation in which the village's texts are written
    text/unambiguous.py         a proof that no text has two derivations
    text/dice.py                random draws that are the same on every machine

layer 1  rules         programs that talk by rules

layer 1  statistical   counting words

layer 8  course        what turns the library into a course
"""

__version__ = "0.1.0"
