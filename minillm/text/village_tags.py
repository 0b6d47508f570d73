"""Parts of speech for the stories: what a word is unless the place where it stands says otherwise.

Twelve tags in the manner of the universal ones, with NAME for proper names and "." for marks. A few words have more
than one: the grammar marks those where they stand ("her_DET bell", "with her_PRON", "to_PRT swim"), so all are known.

Paper:   Petrov, Das and McDonald 2012, "A Universal Part-of-Speech Tagset", arXiv:1104.2086.
Differs: NAME is apart from NOUN, numbers and marks are as there, and X (other) is not needed.
Next:    minillm/statistical/hmm.py
"""

import re

from minillm.text import village_words as words
from minillm.text.grammar_templates import TAGS

_LISTS = {
    "DET": "a all an any both every his my no some the this your",
    "PRON": "he him i it me nobody nothing she that them they we what who you",
    "NUM": "five four one seven six three two",
    "CONJ": "and because but if until when",
    "PRT": "not",
    "ADP": "about after along as at before behind by for from in into of on over round than through to under up with",
    "ADV": "again away back down ever more never now once only slowly so then there together too very where",
    "ADJ": """
        afraid angry best black blue bright brown cold dark dear deep empty fast fat gone good green grey
        happiest happy heavy hungry ill late long loud next old open quiet red sad safe silver slow small
        strange tall tired warm well wet white yellow young
    """,
    "VERB": """
        are asked ate bake be began broke called came carried close closed come coming could counted counting
        cried danced did do eat find forget forgot found gave give go goes grew had have held help helped is
        know laughed learned leave lived lives looked looking loved may move must opened play played pushed put
        ran rang read remembered runs said sang sat saw see seen singing smiled stand stay stayed stood swim
        talked think thought threw told took turn turned walked wanted was went were will write wrote
    """,
}
_MORE_NOUNS = """
    answer basket baskets bear bells bench bird birds boat boats box boy brother child clouds coin day days door
    end evening eyes father fox friday friend friends game gate girl grass hand hands home house joy key king
    letter lock monday moon morning mother night number rain road sea ship sister spring stars stone stones story
    summer sun sunday supper things time times tree trees village voice wall water way while wind winter work
    world year
"""


def _lexicon() -> dict[str, str]:
    nouns = [*words.JOBS, *(job.place for job in words.JOBS.values()), *words.HOMES, *words.FOODS, *words.THINGS]
    nouns += [*words.ANIMALS, *(thing.plural for thing in words.ANIMALS.values()), *_MORE_NOUNS.split()]
    tags = dict.fromkeys(nouns, "NOUN")
    tags |= {word: tag for tag, text in _LISTS.items() for word in text.split()}
    return tags | {name.lower(): "NAME" for name in (*words.WOMEN, *words.MEN)}


LEXICON = _lexicon()


def tagged_sentences(marked: str) -> list[list[tuple[str, str]]]:
    """Cut a story of the language "tags" into sentences of (word, tag).

    >>> tagged_sentences('Anna gave her_DET cup to her_PRON. "Good!" said Anna.')[0]
    [('Anna', 'NAME'), ('gave', 'VERB'), ('her', 'DET'), ('cup', 'NOUN'), ('to', 'ADP'), ('her', 'PRON'), ('.', '.')]
    """
    sentences: list[list[tuple[str, str]]] = [[]]
    ended = quoted = False
    for token in re.findall(rf"[A-Za-z]+(?:_(?:{'|'.join(TAGS)}))?|[^\sA-Za-z]", marked):
        closing = token == '"' and quoted
        if ended and not closing and (token[0].isupper() or token == '"'):
            sentences.append([])
        if token == '"':
            quoted = not quoted
        if not (ended and closing):  # the mark that closes a quotation stays with its sentence
            ended = token in ".!?"
        word, _, tag = token.partition("_")
        sentences[-1].append((word, tag or LEXICON.get(word.lower(), "" if word[0].isalpha() else ".")))
    return sentences
