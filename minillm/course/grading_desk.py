"""The examiner's desk: ask the process that holds a learner's answers, and never believe more than the data it sends.

A learner's function is an `Answer` here: calling it sends plain data to the answers' process and takes plain data back.
The desk starts that process, stops it when it takes too much time, memory or disk, and starts it again for the next
exercise, so that one endless loop costs one exercise and not all.

Next:    minillm/course/grading_examiner.py
"""

import builtins
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from minillm.course.grading_folder import bytes_held
from minillm.course.grading_sandbox import MB
from minillm.course.grading_wire import BadMessage, Channel, decode, encode

_LOOP_ENDS = (StopIteration, StopAsyncIteration)


class Gone(BaseException):
    """The answers' process ended, was stopped, or talks nonsense; a BaseException so that no test can catch it."""


class Desk:
    """The examiner's end: starts the answers' process, asks it, stops it in time, and starts it again."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job, self.stopped, self.lock = job, "", threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: Channel
        self.past: list[tuple[str, str]] = []  # (cell, source) of all that a fresh process must run again
        self.problems: dict[str, str] = {}  # what running a cell raised first, by its id
        self.deadly: set[int] = set()  # places in `past` that ended a process
        self.lent: list[Callable[..., Any]] = []
        self.in_force: list[str] = []

    def open(self) -> None:
        """Make sure that an answers' process is there and has run everything so far, but what ended one."""
        while self.process is None:
            self._start()
            for place in range(len(self.past)):
                if self.process is not None and place not in self.deadly:
                    self._run(place)

    def _start(self) -> None:
        self.stopped, self.lent = "", []
        command = [sys.executable, "-m", "minillm.course.grading_answers"]
        command += [self.job["folder"], self.job["library"], str(self.job["megabytes"])]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=self.job["folder"], env=_environment(self.job), start_new_session=os.name == "posix",
        )  # fmt: skip
        assert process.stdin and process.stdout
        self.process, self.channel = process, Channel(process.stdout, process.stdin)
        with self.clock():
            self.in_force = self._receive()["in force"]

    def add(self, cell: str, sources: Sequence[str]) -> None:
        """Run what a learner wrote for one exercise; what it raises is kept for the test that misses its names.

        Of an exercise that ended the process, the rest is not run.
        """
        for source in sources:
            self.open()
            self.past.append((cell, source))
            self._run(len(self.past) - 1)
            if len(self.past) - 1 in self.deadly:
                break

    def _run(self, place: int) -> None:
        cell, source = self.past[place]
        try:
            with self.clock():
                self.ask(op="run", source=source, name=cell)
        except Gone as gone:
            self.problems.setdefault(cell, str(gone))
            self.deadly.add(place)
        except Exception as error:
            self.problems.setdefault(cell, f"{type(error).__name__}: {error}")

    def ask(self, **request: Any) -> Any:
        """Send one request and give the answer, or raise what the answer raised."""
        self._send(request)
        while True:
            message = self._receive()
            if "borrow" in message:
                self._lend(message)
            elif "ok" in message:
                return self._decoded(message["ok"])
            else:
                raise _raised(message.get("error"), ends_loops=request["op"] == "next")

    def _lend(self, message: dict[str, Any]) -> None:
        """The answer calls a function that a test gave it."""
        try:
            arguments = [self._decoded(a) for a in message["arguments"]]
            result = {"lent": encode(self.lent[message["borrow"]](*arguments), self.hand_over)}
        except Exception as error:
            result = {"refused": f"{type(error).__name__}: {error}"}
        self._send(result)

    def hand_over(self, value: Any) -> dict[str, Any]:
        """The stand-in of what is not plain data: an answer's own thing, or a function that is lent."""
        if isinstance(value, Answer):
            return {"t": "given", "v": value._number}
        if callable(value) and not isinstance(value, type):
            self.lent.append(value)
            return {"t": "lent", "v": len(self.lent) - 1}
        raise TypeError(f"a test cannot hand a {type(value).__name__} to an answer: give plain data or a function")

    def _decoded(self, node: Any) -> Any:
        try:
            return decode(node, self._stand_in)
        except BadMessage as error:
            raise self.give_up(f"the answer sent {error}") from None

    def _stand_in(self, node: dict[str, Any]) -> "Answer":
        if node["t"] != "given" or type(node["v"]) is not int:
            raise BadMessage("something unknown")
        return Answer(self, node["v"], "answer")

    def _send(self, message: Any) -> None:
        try:
            self.channel.send(message)
        except OSError:
            raise self.give_up("the process with the answer ended") from None

    def _receive(self) -> dict[str, Any]:
        try:
            message = self.channel.receive()
        except (EOFError, OSError):
            raise self.give_up("the process with the answer ended") from None
        except BadMessage as error:
            raise self.give_up(f"the answer sent {error}") from None
        if not isinstance(message, dict):
            raise self.give_up("the answer sent something that is no reply")
        return message

    def give_up(self, why: str) -> Gone:
        """End the answers' process; gives what to raise, with the reason of whoever ended it first."""
        self.stop("")
        why, self.process = self.stopped or why, None
        return Gone(why)

    def stop(self, why: str) -> None:
        """End the answers' process and everything it started."""
        with self.lock:  # the watcher and the examiner may both want it
            process, self.stopped = self.process, self.stopped or why
            if process is None or process.returncode is not None:
                return
            with contextlib.suppress(OSError):
                if os.name == "posix":
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def clock(self) -> Iterator[None]:
        """Stop the answers' process when it takes too long, or more memory or disk than it may."""
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done, time.monotonic()), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _watch(self, done: threading.Event, start: float) -> None:
        try:
            self._watch_until(done, start)
        except Exception as error:  # nothing may run unwatched
            self.stop(f"the answer could not be watched ({type(error).__name__})")

    def _watch_until(self, done: threading.Event, start: float) -> None:
        seconds, most = self.job["seconds"], self.job["megabytes"] * MB
        while not done.wait(0.1):
            if time.monotonic() - start > seconds:
                self.stop(f"the answer took more than {seconds:g} s")
            elif self.process and _memory(self.process.pid) > most:
                self.stop(f"the answer took more than {self.job['megabytes']} MB of memory")
            elif bytes_held(self.job["folder"]) > 256 * MB:
                self.stop("the answer wrote more than 256 MB, or more files and folders than can be counted")


class Answer:
    """Something of a learner's that is not plain data, as a test sees it: call it, index it, ask for attributes.

    It equals only itself, so that no answer can claim to equal what a test expects.
    """

    def __init__(self, desk: Desk, number: int, name: str) -> None:
        self._desk, self._number, self.__name__ = desk, number, name

    def _coded(self, values: Any) -> list[Any]:
        return [encode(value, self._desk.hand_over) for value in values]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        coded = dict(zip(named, self._coded(named.values()), strict=True))
        return self._desk.ask(op="call", of=self._number, arguments=self._coded(arguments), named=coded)

    def call_and_look(self, *arguments: Any) -> tuple[Any, list[Any]]:
        """Call it, and give the result and what the call left of the arguments."""
        coded = self._coded(arguments)
        result = self._desk.ask(op="call", of=self._number, arguments=coded, named={}, look=True)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], list)):
            raise self._desk.give_up("the answer sent something that is no reply")
        return result

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._desk.ask(op="attribute", of=self._number, name=name)

    def __getitem__(self, key: Any) -> Any:
        return self._desk.ask(op="item", of=self._number, arguments=self._coded([key]))

    def __len__(self) -> int:
        return self._desk.ask(op="length", of=self._number)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        walker = self._desk.ask(op="iterate", of=self._number)
        while True:
            try:
                item = self._desk.ask(op="next", of=walker._number)
            except StopIteration:
                return
            yield item

    def __deepcopy__(self, memo: object) -> "Answer":
        return self

    def __repr__(self) -> str:
        return f"<your {self.__name__}>"


def _raised(error: Any, *, ends_loops: bool) -> Exception:
    """The built-in exception that an answer raised; anything else counts as a RuntimeError.

    StopIteration too, unless an iterator was asked: out of a call it would end a test's `all(map(answer, cases))`
    before the first case that fails.
    """
    if not (isinstance(error, list) and len(error) == 2 and all(isinstance(part, str) for part in error)):
        return RuntimeError("something that is no reply")
    kind = getattr(builtins, error[0], None)
    if isinstance(kind, type) and issubclass(kind, Exception) and (ends_loops or kind not in _LOOP_ENDS):
        with contextlib.suppress(Exception):  # some kinds want more arguments than a message
            return kind(error[1])
    return RuntimeError(f"{error[0]}: {error[1]}")


def _memory(pid: int) -> int:
    """Bytes in use by a process, 0 where it cannot be seen."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _environment(job: dict[str, Any]) -> dict[str, str]:
    """What the answers' process may know of its surroundings: little, and no path to the solutions."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TZ")}
    return {
        **kept, "PYTHONPATH": job["library"], "HOME": job["folder"], "TMPDIR": job["folder"], "MINILLM_QUIET": "1",
        "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "0", "MPLBACKEND": "agg",
    }  # fmt: skip
