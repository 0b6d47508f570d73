"""The table of the tour: a row for each stage, each with a verdict against something that was stated before.

    verdict = what was measured, against a baseline: a simpler model, the answer next to hand, the model before

A verdict may be "no". A share must lie above its baseline with the whole of its 95 % interval, and so must what the
labeller gains, question by question, from one model's answers to another's; else nothing is claimed.

Paper:   Dodge et al. 2019, "Show Your Work: Improved Reporting of Experimental Results", arXiv:1909.03004.
Names:   `bits` are bits per character of stories that nobody read; the floor is their exact entropy.
Next:    minillm/course/tour_figure.py
"""

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from minillm.core.files import write_atomically
from minillm.course.tour_config import STAGES, TourConfig
from minillm.course.tour_exam import Gain, Share
from minillm.course.tour_folder import Measured

YEARS = {"eliza": 1966, "ngram": 1995, "window": 2003, "lstm": 2012, "gpt": 2018, "sft": 2021, "rm": 2022, "ppo": 2022}
FORMAT = "minillm-tour-2"
WIDTH = 96  # of the verdicts, in characters: what a page of JupyterLab shows without breaking words


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRow:
    """One line of the table. None stands where a number has no meaning."""

    name: str
    model: str
    year: int
    parameters: int | None
    seconds: float = field(compare=False)  # of the processor; two tours agree when all but these are equal
    tokens: int | None  # read while it learned
    bits_per_character: float | None
    above_floor: float | None  # bits per character above the exact entropy
    followed: float | None  # share of instructions
    followed_interval: tuple[float, float] | None
    invented: float | None  # share of questions that no text answers, answered all the same
    invented_interval: tuple[float, float] | None
    worth: float | None  # mean of what the labeller finds in its answers in the exam
    reward: float | None  # mean score of its answers in the exam by the tour's reward model
    kl: float | None  # nats an answer, against the fine-tuned model
    baseline: str  # what it is held against
    verdict: str
    passed: bool


def rows_of(found: Mapping[str, Measured], floor: float) -> list[StageRow]:
    """The rows of the stages that are there, in their order; a verdict needs the stages before it."""
    return [_row(name, found, floor) for name in STAGES if name in found]


def _row(name: str, found: Mapping[str, Measured], floor: float) -> StageRow:
    m = found[name]
    baseline, verdict, passed = _VERDICTS[name](found, floor)
    told = found["rm"].others if "rm" in found else {}  # it has judged the stages before it too
    reward = told.get(f"reward {name}") if m.reward is None else m.reward
    worth = m.others.get("worth", told.get(f"worth {name}"))
    return StageRow(
        name=name,
        model=m.model,
        year=YEARS[name],
        parameters=m.parameters,
        seconds=m.seconds,
        tokens=m.tokens,
        bits_per_character=m.bits_per_character,
        above_floor=None if m.bits_per_character is None else m.bits_per_character - floor,
        followed=None if m.followed is None else m.followed.value,
        followed_interval=None if m.followed is None else m.followed.interval,
        invented=None if m.invented is None else m.invented.value,
        invented_interval=None if m.invented is None else m.invented.interval,
        worth=worth,
        reward=reward,
        kl=m.kl,
        baseline=baseline,
        verdict=verdict,
        passed=passed,
    )


def of_numbers(bits: Mapping[str, float], floor: float) -> list[StageRow]:
    """Rows that hold bits per character alone, of the n-grams first: enough for a picture.

    >>> of_numbers({"ngram": 0.3, "gpt": 0.2}, floor=0.1)[1].passed
    True
    """
    found = {name: Measured(model=name, bits_per_character=b, others={"unigram": b}) for name, b in bits.items()}
    return rows_of(found, floor)


Judgement = tuple[str, str, bool]  # baseline, verdict, passed


def _bits(m: Measured) -> float:
    assert m.bits_per_character is not None
    return m.bits_per_character


def _share(share: Share | None) -> Share:
    assert share is not None
    return share


def _eliza(found: Mapping[str, Measured], floor: float) -> Judgement:
    followed = _share(found["eliza"].followed)
    return (
        "nobody: 0 of the instructions followed",
        f"answers everything and follows {followed.value:.2f} of the instructions: form without knowledge",
        followed.value < 0.05,
    )


def _ngram(found: Mapping[str, Measured], floor: float) -> Judgement:
    bits, unigram = _bits(found["ngram"]), found["ngram"].others["unigram"]
    return (
        f"words without order: {unigram:.3f}",
        f"order is worth {unigram - bits:.2f} bits per character; {bits - floor:.3f} above the floor",
        bits < unigram,
    )


def _network(name: str, others: Sequence[str], found: Mapping[str, Measured], floor: float) -> Judgement:
    bits = _bits(found[name])
    best = min((other for other in others if other in found), key=lambda other: _bits(found[other]))
    least = _bits(found[best])
    closed = 1 - (bits - floor) / (least - floor)
    how = (
        f"closes {closed:.0%} of the way that {best} left to the floor" if bits < least else f"is no better than {best}"
    )
    return f"{best}: {least:.3f}", f"{how}; {bits - floor:.3f} above it", bits < least


def _window(found: Mapping[str, Measured], floor: float) -> Judgement:
    return _network("window", ("ngram",), found, floor)


def _lstm(found: Mapping[str, Measured], floor: float) -> Judgement:
    return _network("lstm", ("ngram", "window"), found, floor)


def _gpt(found: Mapping[str, Measured], floor: float) -> Judgement:
    return _network("gpt", ("ngram", "window", "lstm"), found, floor)


def _sft(found: Mapping[str, Measured], floor: float) -> Judgement:
    m = found["sft"]
    followed, nearest = _share(m.followed), m.others["nearest"]
    return (
        f"the nearest example: followed {nearest:.2f}",
        f"follows {followed}; invents {_share(m.invented)} where nothing is known",
        followed.interval[0] > nearest,
    )


def _gain(m: Measured) -> Gain:
    return Gain(m.others["gain"], m.others["gain low"], m.others["gain high"])


def _rm(found: Mapping[str, Measured], floor: float) -> Judgement:
    o, gain = found["rm"].others, _gain(found["rm"])
    text = (
        f"the labeller gains {gain}; the judge guesses {o['accuracy']:.2f} of the labeller's choices (the likelier "
        f"answer {o['likelier']:.2f}, at most {o['bayes']:.2f})"
    )
    if "clicks" in o:
        text += f"; clicks read: {o['clicks']:.0f}"
        held = o["clicks held back"]
        text += f", {o['clicks guessed']:.0f} of {held:.0f} held back guessed" if held else ", too few to hold any back"
    baseline = f"one answer of sft: worth {o['worth sft']:.2f}; its likeliest of as many: {o['worth likeliest']:.2f}"
    return baseline, text, gain.low > 0 and o["accuracy"] > 0.5


def _ppo(found: Mapping[str, Measured], floor: float) -> Judgement:
    before, after, o, gain = found["sft"], found["ppo"], found["ppo"].others, _gain(found["ppo"])
    text = (
        f"the labeller gains {gain}; invents {_share(after.invented)} instead of {_share(before.invented)}, follows "
        f"{_share(after.followed).value:.2f} instead of {_share(before.followed).value:.2f}; J {o['objective']:.2f} of "
        f"at most {o['objective best']:.2f}"
    )
    baseline = f"one answer of sft: worth {found['rm'].others['worth sft']:.2f}, J {o['objective sft']:.2f}"
    return baseline, text, gain.low > 0 and o["objective"] > o["objective sft"]


_VERDICTS = {
    "eliza": _eliza,
    "ngram": _ngram,
    "window": _window,
    "lstm": _lstm,
    "gpt": _gpt,
    "sft": _sft,
    "rm": _rm,
    "ppo": _ppo,
}
_COLUMNS = (
    "stage",
    "year",
    "parameters",
    "seconds",
    "bits/char",
    "above",
    "followed",
    "invented",
    "worth",
    "reward",
    "KL",
)


def results_table(rows: Sequence[StageRow], width: int = WIDTH) -> str:
    """The table as text: numbers first, then a verdict for each stage, broken at `width` characters.

    >>> print(results_table([]))
    stage  year  parameters  seconds  bits/char  above  followed  invented  worth  reward  KL
    """
    lines: list[list[str]] = [list(_COLUMNS)]
    for row in rows:
        numbers = (row.bits_per_character, row.above_floor), (row.followed, row.invented, row.worth, row.reward, row.kl)
        cells = [row.name, str(row.year), _whole(row.parameters), f"{row.seconds:.0f}"]
        cells += ["–" if x is None else f"{x:.3f}" for x in numbers[0]]
        lines.append(cells + ["–" if x is None else f"{x:.2f}" for x in numbers[1]])
    widths = [max(len(line[i]) for line in lines) for i in range(len(_COLUMNS))]
    table = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    wide = max((len(row.name) for row in rows), default=0)
    verdicts = [
        f"{row.name.ljust(wide)}  {'yes' if row.passed else 'no '}  {row.model}: {row.verdict} (against {row.baseline})"
        for row in rows
    ]
    told = [textwrap.fill(line, width, subsequent_indent=" " * (wide + 6), break_on_hyphens=False) for line in verdicts]
    return "\n".join(line.rstrip() for line in [*table, *([""] if rows else []), *told])


def _whole(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def store(rows: Sequence[StageRow], config: TourConfig, floor: float, path: Path) -> None:
    """Write a table to a file, with the settings that made it; `load` reads it."""
    settings = {name: value for name, value in asdict(config).items() if name != "clicks"}
    saved = {"format": FORMAT, "floor": floor, "settings": settings, "rows": [asdict(row) for row in rows]}
    write_atomically(path, json.dumps(_rounded(saved), indent=1, ensure_ascii=False) + "\n")


def load(path: Path) -> tuple[list[StageRow], float]:
    """The rows of a stored table, and the floor. ValueError for anything else."""
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
        if saved["format"] != FORMAT:
            raise ValueError(f"format={saved['format']!r}, and this program reads {FORMAT!r}")
        return [_from_plain(row) for row in saved["rows"]], float(saved["floor"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"path={str(path)!r} holds no table of a tour ({error}); minillm tour --out writes one"
        ) from None


def _from_plain(fields: dict[str, object]) -> StageRow:
    pairs = {
        name: tuple(v) for name in ("followed_interval", "invented_interval") if isinstance(v := fields[name], list)
    }
    return StageRow(**{**fields, **pairs})  # type: ignore[arg-type]


def _rounded(value: object) -> object:
    """Fractions at four digits: more is noise of the machine."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value
