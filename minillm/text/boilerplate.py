"""Lines that belong to the site and not to the page: menus, footers, "All rights reserved".

    boilerplate(line)  ⇔  it stands in at least max(least, share · N) documents that are otherwise different,
                          and it is no sentence, or a sentence about the site (cookies, copyright, subscribe, …)

One page cannot tell which of its lines are furniture; many pages together can, because furniture repeats. Three
things repeat and are no furniture, and each has its rule: copies of one page (so the documents must differ in the
rest of their words), sentences that many people write (so a sentence must speak of the site), and lines
that announce the next ("Note:"; so a line that ends in a colon stays).

Paper:   Raffel et al. 2020, "Exploring the Limits of Transfer Learning" (C4), §2.2, arXiv:1910.10683, drops repeated
         spans in the same spirit; Kohlschütter et al. 2010, "Boilerplate Detection using Shallow Text Features", WSDM.
Differs: C4 compares spans of three sentences, and drops lines with words such as "cookie policy" wherever they stand.
Next:    minillm/text/personal_data.py
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from minillm.text.near_duplicates import jaccard, shingles

_DIGITS = re.compile(r"\d+")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’）)]*$")
_ABOUT_THE_SITE = re.compile(
    r"copyright|©|all rights reserved|cookie|privacy|terms of (?:use|service)|subscri|newsletter|sign (?:up|in)|"
    r"log ?in|click here|read more|share (?:this|on)|follow us|advertisement|sponsored|javascript|your browser|"
    r"powered by|back to top|skip to|版权|隐私|订阅|登录|注册|点击|广告|转载"
)
_SAMPLE = 40  # documents looked at to count how many different ones hold a line


@dataclass(frozen=True, kw_only=True, slots=True)
class BoilerplateConfig:
    """When a repeated line is furniture."""

    least: int = 5  # different documents that must hold it
    share: float = 0.001  # of all documents that must hold it, when that is more
    longest: int = 200  # characters; a longer line is a paragraph, and its repetition a matter for near_duplicates
    same: float = 0.5  # similarity of the rest from which two documents count as one

    def __post_init__(self) -> None:
        if self.least < 2:
            raise ValueError(f"least={self.least}: a line must repeat to be boilerplate; use 2 or more, for example 5")
        if not 0 <= self.share < 1:
            raise ValueError(f"share={self.share} must be a share of all documents, 0 ≤ share < 1; for example 0.001")


def find_boilerplate(documents: Sequence[str], config: BoilerplateConfig | None = None) -> set[str]:
    """The keys of the lines that are furniture; a key is the line in lower case with 0 for every number.

    >>> texts = ["Ann met Bo.", "Rain fell all day."]
    >>> pages = [f"Home | News | Contact\\n{text}\\n(c) 20{i}" for i, text in enumerate(texts)]
    >>> sorted(find_boilerplate(pages, BoilerplateConfig(least=2)))
    ['(c) 0', 'home | news | contact']
    """
    config = config or BoilerplateConfig()
    holders: dict[str, list[int]] = {}
    for i, document in enumerate(documents):
        lines = {key for line in document.split("\n") if (key := _key(line))}
        for key in lines if len(lines) > 1 else ():  # a page is not its own furniture
            if len(key) <= config.longest and not key.endswith((":", "：")):
                holders.setdefault(key, []).append(i)
    least = max(config.least, config.share * len(documents))
    found: set[str] = set()
    for key, where in holders.items():
        if len(where) < least or (_SENTENCE_END.search(key) and not _ABOUT_THE_SITE.search(key)):
            continue
        if _different(key, [documents[i] for i in where[:: max(1, len(where) // _SAMPLE)]], config) >= config.least:
            found.add(key)
    return found


def remove_boilerplate(documents: Sequence[str], config: BoilerplateConfig | None = None) -> list[str]:
    """The documents without the lines that `find_boilerplate` finds in them.

    >>> menu = "Home | News"
    >>> remove_boilerplate([f"{menu}\\nAnn met Bo.", f"{menu}\\nRain fell all day."], BoilerplateConfig(least=2))
    ['Ann met Bo.', 'Rain fell all day.']
    """
    found = find_boilerplate(documents, config)
    if not found:
        return list(documents)
    return ["\n".join(x for x in text.split("\n") if _key(x) not in found).strip("\n") for text in documents]


def _key(line: str) -> str:
    return _DIGITS.sub("0", line.strip().lower())


def _different(key: str, documents: list[str], config: BoilerplateConfig) -> int:
    """How many of the documents (at least) are different from each other when the line is left out."""
    seen = []
    for document in documents:
        rest = shingles("\n".join(line for line in document.split("\n") if _key(line) != key))
        if all(jaccard(rest, other) < config.same for other in seen):
            seen.append(rest)
        if len(seen) >= config.least:
            break
    return len(seen)
