"""Instant checks: a learner's answer goes in, and out comes "correct" or the first property that it breaks.

`check("03.merge_pair", merge_pair)` imports `minillm.course.checks_03` when it is asked for and calls the function
`merge_pair(answer)` in it. That function tries limits, invariances and agreement on fresh random inputs, every axis
a different size, and raises `Wrong` at the first property that fails.

For authors of checks (`checks_NN.py`):

- `raise Wrong("what failed, on the smallest example", hint="the likely cause")`, or use the `expect…` helpers below.
- Call the answer through `call(answer, …)`: whatever it raises becomes a diagnosis, and your inputs stay yours.
- Give plain data in and look at plain data that comes back (numbers, strings, lists, tuples, dicts, sets, bytes,
  numpy arrays, torch tensors). `minillm grade` runs the answer in another process, so a function or object that
  comes back can be called, indexed and asked for attributes, but is never an instance of your class.
- Never compare with `answer(x) == y` alone: `expect_equal` and `expect_close` also catch NaN, wrong types and sizes.
- A check returns None, prints nothing, and never says only "wrong".
- For each check `tests/course/test_checks_NN.py` holds five plausible wrong answers and the diagnosis each must get.

Layout of an exercise in `solutions/NN-topic/topic.ipynb` (three cells, ids from the name of the check):

1. markdown, id `NN-name-card`: `### Exercise NN.name: title`, then a line
   `*Reproduce · difficulty 2 of 5 · 10 minutes*` (or Modify, Invent, Find the bug),
   the objective, and two `<details><summary>Hint 1</summary>…</details>`.
2. code, nbgrader solution cell, grade_id `NN-name`: imports, one typed stub with a docstring, the answer between
   `### BEGIN SOLUTION` and `### END SOLUTION` *inside* the function: an untouched stub raises NotImplementedError.
3. code, nbgrader test cell (grade, locked), grade_id `NN-name-check`, points:
   `from minillm.course.checks import check`, `check("NN.name", name)`, then
   `### BEGIN HIDDEN TESTS … ### END HIDDEN TESTS` with asserts for teachers.

Next:    minillm/course/grading.py
"""

import contextlib
import copy
import importlib
import io
import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from minillm.course.learned import is_learner, note_solved

CHECK_NAME = re.compile(r"(\d\d)\.([a-z][a-z0-9_]*)")


class Wrong(AssertionError):
    """What is wrong with an answer, in words for the person who wrote it.

    Notebooks show the message alone, without a traceback.

    >>> raise Wrong("entropy([1.0]) gave 1.0, but one certain outcome has entropy 0", hint="is a logarithm there?")
    Traceback (most recent call last):
    ...
    minillm.course.checks.Wrong: entropy([1.0]) gave 1.0, but one certain outcome has entropy 0
    Hint: is a logarithm there?
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(f"{problem}\nHint: {hint}" if hint else problem)
        self.problem, self.hint = problem, hint

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback."""
        return [f"\N{BALLOT X} {type(self).__name__}: {self.problem}", *([f"  Hint: {self.hint}"] if self.hint else [])]


class NotWrittenYet(Wrong):
    """The answer still is the stub that the exercise began with."""

    def _render_traceback_(self) -> list[str]:
        return [f"\N{WHITE CIRCLE} {self.problem}"]


def check(name: str, answer: object) -> None:
    """Try an answer against every property that the exercise asks for, and say how it went.

    Prints one line when all hold; in a learner's notebook it is noted, and a second line counts the exercises.
    Raises `Wrong` at the first that does not, `NotWrittenYet` for a stub, and `ValueError` for a name that no check
    has. What the answer writes to stderr is dropped: nbgrader would score it 0.
    """
    examine = find_check(name)
    problem: Wrong | None = None
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            examine(answer)
        except NotImplementedError:
            problem = NotWrittenYet(
                f"{name} is not written yet: replace `raise NotImplementedError` by your lines and run both cells"
            )
        except Wrong as wrong:
            problem = type(wrong)(f"{name}: {wrong.problem}", wrong.hint)
        except Exception as error:  # the answer gave something that the author of the check did not think of
            kind = f"{type(error).__name__}: {_short(error)}"
            problem = Wrong(
                f"{name}: your answer gave something that the check cannot work with ({kind})",
                hint="compare the type and the shape of what you return with the docstring of the exercise",
            )
    if problem is not None:
        raise problem from None
    print(f"{name}: correct")
    if is_learner() and (said := note_solved(name)):
        print(said)


def find_check(name: str) -> Callable[[Any], object]:
    """The function that examines the answer called `name`, such as "03.merge_pair".

    >>> find_check("entropy")
    Traceback (most recent call last):
    ...
    ValueError: name='entropy' is not the name of a check; one looks like '03.merge_pair': chapter, dot, function
    """
    match = CHECK_NAME.fullmatch(name)
    if not match:
        raise ValueError(
            f"name={name!r} is not the name of a check; one looks like '03.merge_pair': chapter, dot, function"
        )
    chapter, function = match.groups()
    module_name = f"minillm.course.checks_{chapter}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise ValueError(f"name={name!r}: chapter {chapter} has no checks (there is no {module_name})") from None
    found = getattr(module, function, None)
    if getattr(found, "__module__", None) != module_name or not callable(found):
        known = [n for n, f in vars(module).items() if getattr(f, "__module__", None) == module_name and n[0] != "_"]
        raise ValueError(
            f"name={name!r} is not a check of chapter {chapter}; it has {', '.join(f'{chapter}.{n}' for n in known)}"
        )
    return found


def call(answer: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call an answer on copies of the arguments; what it raises becomes a `Wrong` that names the input.

    >>> call(lambda text: text.count("a"), "banana")
    3
    >>> call(lambda text: text + 1, "banana")
    Traceback (most recent call last):
    ...
    minillm.course.checks.Wrong: your <lambda>('banana') raised TypeError: can only concatenate str (not "int") to str
    """
    if not callable(answer):
        raise Wrong(f"your answer is {_show(answer)}, which is not a function", hint="give the name without brackets")
    try:
        return answer(*copy.deepcopy(arguments), **copy.deepcopy(named))
    except (NotImplementedError, Wrong):
        raise
    except RecursionError:
        raise Wrong(f"your {_call_text(answer, arguments, named)} never stopped calling itself") from None
    except (Exception, SystemExit) as error:
        problem = f"your {_call_text(answer, arguments, named)} raised {type(error).__name__}: {_short(error)}"
        raise Wrong(problem) from None


def expect(condition: object, problem: str, hint: str = "") -> None:
    """Raise `Wrong(problem, hint)` unless the condition holds."""
    if not condition:
        raise Wrong(problem, hint)


def expect_type(got: object, wanted: type | tuple[type, ...], what: str = "your answer", hint: str = "") -> None:
    """Raise `Wrong` unless `got` is an instance of `wanted`; `what` names it in the message.

    >>> expect_type(None, float, "bits(2.0)")
    Traceback (most recent call last):
    ...
    minillm.course.checks.Wrong: bits(2.0) gave None, which is a NoneType; wanted float
    Hint: is there a `return`?
    """
    if isinstance(got, wanted) and not (isinstance(got, bool) and wanted in (int, float)):
        return
    names = " or ".join(t.__name__ for t in (wanted if isinstance(wanted, tuple) else (wanted,)))
    hint = hint or ("is there a `return`?" if got is None else "")
    raise Wrong(f"{what} gave {_show(got)}, which is a {type(got).__name__}; wanted {names}", hint)


def expect_equal(got: object, wanted: object, what: str = "your answer", hint: str = "") -> None:
    """Raise `Wrong` unless `got` is exactly `wanted`, of the same kind; for decimals use `expect_close`.

    >>> expect_equal([1, 2, 4], [1, 2, 3], "merge([1, 2], 3)")
    Traceback (most recent call last):
    ...
    minillm.course.checks.Wrong: merge([1, 2], 3) gave [1, 2, 4], wanted [1, 2, 3] (first difference at position 2)
    """
    if _has_shape(wanted):
        expect_close(got, wanted, tolerance=0.0, what=what, hint=hint)
        return
    if got is None and wanted is not None:
        expect_type(got, type(wanted), what, hint)
    if isinstance(got, bool | np.bool_) != isinstance(wanted, bool) or got != wanted:
        where = ""
        if isinstance(got, list | tuple | str) and type(got) is type(wanted):
            pairs = zip(got, wanted, strict=False)  # type: ignore[arg-type]  # pyright cannot know that both are sequences
            first = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
            where = f" (first difference at position {first})" if first is not None else f" (length {len(got)})"
        raise Wrong(f"{what} gave {_show(got)}, wanted {_show(wanted)}{where}", hint)


def expect_close(got: Any, wanted: Any, tolerance: float = 1e-6, what: str = "your answer", hint: str = "") -> None:
    """Raise `Wrong` unless every number of `got` lies within `tolerance` of `wanted` (relative above 1).

    Takes a number, an array or a tensor, or nested lists of numbers. NaN is close to nothing, not even to NaN.

    >>> expect_close([0.5, 0.25], [0.5, 0.5], what="softmax([0, 0])", hint="do the rows sum to one?")
    Traceback (most recent call last):
    ...
    minillm.course.checks.Wrong: softmax([0, 0]) gave 0.25 at position 1, wanted 0.5
    Hint: do the rows sum to one?
    """
    if got is None:
        expect_type(got, type(wanted), what, hint)
    try:
        got_array, wanted_array = _array(got), _array(wanted)
    except (TypeError, ValueError):
        raise Wrong(f"{what} gave {_show(got)}, which is a {type(got).__name__}; wanted numbers", hint) from None
    if got_array.shape != wanted_array.shape:
        raise Wrong(f"{what} has shape {got_array.shape}, wanted {wanted_array.shape}", hint)
    with np.errstate(invalid="ignore"):  # inf - inf: equal infinities are caught by ==
        near = np.abs(got_array - wanted_array) <= tolerance * np.maximum(1.0, np.abs(wanted_array))
    same = (got_array == wanted_array) | near
    if same.all():
        return
    place = tuple(int(i) for i in np.argwhere(~same)[0])
    where = "" if not place else f" at position {place[0]}" if len(place) == 1 else f" at position {place}"
    raise Wrong(f"{what} gave {got_array[place]:.6g}{where}, wanted {wanted_array[place]:.6g}", hint)


def expect_raises(
    wanted: type[Exception], answer: Callable[..., Any], *arguments: Any, hint: str = "", **named: Any
) -> None:
    """Raise `Wrong` unless the answer refuses these arguments with an exception of the wanted type."""
    wish = f"it should raise {wanted.__name__} for them"
    try:
        got = answer(*copy.deepcopy(arguments), **copy.deepcopy(named))
    except wanted:
        return
    except NotImplementedError:
        raise
    except (Exception, SystemExit) as error:
        text = f"your {_call_text(answer, arguments, named)} raised {type(error).__name__}: {_short(error)}; {wish}"
        raise Wrong(text, hint) from None
    raise Wrong(
        f"your {_call_text(answer, arguments, named)} accepted its arguments and gave {_show(got)}; {wish}", hint
    )


def expect_inputs_kept(answer: Callable[..., Any], *arguments: Any, hint: str = "") -> Any:
    """Call the answer and raise `Wrong` when it changed one of its arguments in place; gives what it returned."""
    before = copy.deepcopy(arguments)
    # while grading, the answer runs in another process: then what it left of its arguments has to be asked for
    look = getattr(answer, "call_and_look", None)
    got, after = look(*arguments) if look else (answer(*arguments), arguments)
    for i, (old, new) in enumerate(zip(before, after, strict=True), start=1):
        same = np.array_equal(_array(old), _array(new)) if _has_shape(old) else old == new
        if not same:
            text = f"your {_call_text(answer, before, {})} changed its argument number {i} to {_show(new)}"
            raise Wrong(text, hint or "work on a copy: `list(x)` or `x.copy()`")
    return got


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind in "USV":
        raise TypeError
    return array.astype(complex if array.dtype.kind == "c" else float)


def _has_shape(value: object) -> bool:
    return isinstance(getattr(value, "shape", None), tuple)


def _show(value: object, limit: int = 120) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception as error:
        text = f"an object whose repr raises {type(error).__name__}"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _short(error: BaseException) -> str:
    text = str(error).strip() or "no message"
    return _show_line(text.splitlines()[0])


def _show_line(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _call_text(answer: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> str:
    inside = [_show(a, 60) for a in arguments] + [f"{k}={_show(v, 60)}" for k, v in named.items()]
    return f"{getattr(answer, '__name__', 'answer')}({', '.join(inside)})"


def is_number(value: object) -> bool:
    """Whether a value is one finite number (a bool is not).

    >>> is_number(1.5), is_number(float("nan")), is_number(True), is_number("1")
    (True, False, False, False)
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return math.isfinite(value)
