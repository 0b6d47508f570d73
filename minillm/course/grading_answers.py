"""The process that runs a learner's code while it is graded: it answers calls, and knows no test and no verdict.

Started by the examiner with `python -m minillm.course.grading_answers FOLDER LIBRARY MEGABYTES`; requests come in on
stdin, replies go out on what was stdout. Before the first line of a learner's code runs, the process gives up its
rights (`grading_sandbox`) and everything it prints goes nowhere. Whatever the code then does to this process, the
examiner takes what comes out of it for an answer to be examined, never for a verdict.

    {"op": "run", …} executes a cell · "get" a name · "call", "attribute", "item", "length", "next" on what was given

The checks hold what exercises ask for, so this process does not have them: a learner's own `check(…)`, or a score that
a card of an exercise prints, calls a stand-in that does nothing.

Next:    minillm/course/grading_examiner.py
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from minillm.course.grading_sandbox import die_with_parent, restrict
from minillm.course.grading_wire import Channel, decode, encode

MOST_WORDS = 500  # characters of an error message


class Answers:
    """A learner's names, and the things that were handed out by number because they are not plain data."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        # notebooks have `display` without importing it
        self.names: dict[str, Any] = {"__name__": "__main__", "display": lambda *_, **__: None}
        self.given: list[Any] = []

    def serve(self) -> None:
        """Answer requests until the examiner closes the pipe."""
        with contextlib.suppress(EOFError):
            while True:
                self._answer(self.channel.receive())

    def _answer(self, request: dict[str, Any]) -> None:
        try:
            reply = {"ok": encode(self._do(request), self._hand_out)}
        except BaseException as error:
            # whatever it is, SystemExit and KeyboardInterrupt too: an answer that raises is an answer
            reply = {"error": [_kind(error), str(error)[:MOST_WORDS]]}
        self.channel.send(reply)

    def _do(self, request: dict[str, Any]) -> Any:
        op = request["op"]
        if op == "run":
            exec(compile(runnable(request["source"]), request["name"], "exec"), self.names)
            return None
        if op == "get":
            return self.names[request["name"]]
        target = self.given[request["of"]]
        arguments = [decode(a, self._take_in) for a in request.get("arguments", [])]
        if op == "call":
            named = {k: decode(v, self._take_in) for k, v in request["named"].items()}
            result = target(*arguments, **named)
            return (result, arguments) if request.get("look") else result
        if op == "attribute":
            return getattr(target, request["name"])
        if op == "item":
            return target[arguments[0]]
        if op == "length":
            return len(target)
        if op == "iterate":
            return _Iterator(iter(target))
        if op == "next":
            return next(target.inner)
        raise ValueError(f"op={op!r} is not known")

    def _hand_out(self, value: Any) -> dict[str, Any]:
        self.given.append(value)
        return {"t": "given", "v": len(self.given) - 1, "callable": callable(value)}

    def _take_in(self, node: dict[str, Any]) -> Any:
        if node["t"] == "given":
            return self.given[node["v"]]
        if node["t"] == "lent":
            return self._borrow(node["v"])
        raise ValueError(f"t={node['t']!r} is not known")

    def _borrow(self, number: int) -> Callable[..., Any]:
        """A function of the examiner's: calling it asks the examiner and waits, answering requests meanwhile."""

        def lent(*arguments: Any) -> Any:
            self.channel.send({"borrow": number, "arguments": [encode(a, self._hand_out) for a in arguments]})
            while True:
                message = self.channel.receive()
                if "lent" in message:
                    return decode(message["lent"], self._take_in)
                if "refused" in message:
                    raise ValueError(message["refused"])
                self._answer(message)

        return lent


class _Iterator:
    """Keeps an iterator from being taken for plain data."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class NoChecks(MetaPathFinder, Loader):
    """Finds, in place of each module with checks, one whose every name is a function that gives None."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Python's question to each finder; None for all other modules."""
        return ModuleSpec(fullname, self) if fullname.startswith("minillm.course.checks") else None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module."""
        wrong = type("Wrong", (AssertionError,), {})
        names: dict[str, object] = {"Wrong": wrong, "NotWrittenYet": wrong, "__getattr__": _stand_in}
        vars(module).update(names)


def _stand_in(name: str) -> Callable[..., None]:
    if name.startswith("__"):
        raise AttributeError(name)
    return lambda *_, **__: None


def runnable(source: str) -> str:
    """A cell without IPython's own lines (`%time`, `!ls`, `help?`), which plain Python cannot run.

    >>> runnable("%%time\\nx = 1\\n!ls")
    '#%%time\\nx = 1\\n#!ls'
    """
    try:
        compile(source, "cell", "exec")
    except (SyntaxError, ValueError):
        return re.sub(r"(?m)^(?=[ \t]*[%!?]|.*\?[ \t]*$)", "#", source)
    return source


def _kind(error: BaseException) -> str:
    """The nearest built-in kind of an exception, by name."""
    for kind in type(error).__mro__:
        if kind.__module__ == "builtins":
            return kind.__name__
    return "Exception"


def main() -> None:
    """Take the pipes, give up all rights, answer."""
    die_with_parent()  # else a loop of a learner's would outlive an examiner that was killed
    folder, library, megabytes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    channel = Channel(incoming, outgoing)
    sys.meta_path.insert(0, NoChecks())
    channel.send({"in force": restrict(folder, library, megabytes)})
    Answers(channel).serve()


if __name__ == "__main__":
    main()
