"""minillm: the road of language models, from rules to RLHF, small enough to read and run on a laptop.

The files in the order of history, which is also the only direction of imports: a file may import its own
folder and the layers above it in this list. A test holds that, and that this map names exactly the files there are.

layer 0  core          what everything stands on
    core/files.py               files that are whole or not there
    core/notation.py            the letters for axes, and the checker of their promises
    core/runtime.py             device, number format and seed, each with the reason for it

layer 1  text          where text comes from and how it becomes numbers
    text/village.py             Village: a generated little world whose every text has a known probability

layer 1  rules         programs that talk by rules
    rules/script.py             the script that Eliza follows: text that anybody can write, checked line by line
    rules/eliza.py              Eliza: keywords, patterns and replies, with nothing understood
    rules/rulebook.py           a rule book: rules and facts as text that anybody can read, write and check
    rules/expert.py             an expert system: facts, rules that make new facts, and an answer to "why?"

layer 1  statistical   counting words

layer 8  course        what turns the library into a course
    course/checks.py            check: an answer goes in, "correct" or the first broken property comes out
    course/checks_00.py         checks of chapter 00
    course/figures_base.py      Figure and Drawing: a picture with its text alternative
    course/figures.py           line, bar, heat, scatter and timeline charts
    course/widgets.py           Explorer: a picture that answers to sliders, with a still twin
    course/progress.py          progress: one line for notebooks and terminals
    course/places.py            where the course lies on this machine
    course/kernel.py            the kernel python3 is always this very Python
    course/notebooks.py         notebook files: one shape, and a run from the first cell to the last
    course/authoring.py         exercises from solutions; normalise and run notebooks
    course/cli.py               the command line: minillm lab, doctor, grade, author
"""

__version__ = "0.1.0"
