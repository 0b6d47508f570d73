"""Who can be talked to on this machine: Eliza, a folder, or a stage of the newest tour.

Next:    minillm/course/widgets_chat.py
"""

import contextlib
import io
import json
import sys
from pathlib import Path

from minillm.chat import TerminalChat
from minillm.conversation import TEMPERATURE
from minillm.course.places import learner_folder
from minillm.speaker import Speaker
from minillm.speaker_files import CARD, load_speaker
from minillm.speakers import ElizaSpeaker

STAGES = ("eliza", "ngram", "window", "lstm", "gpt", "sft", "rm", "ppo")  # of a tour, in its order
NEWEST = "newest.json"  # beside the stages: which of them are the newest tour's


def find_speaker(checkpoint: str | Path | None = None) -> Speaker:
    """The speaker of a folder, or of a stage of the newest tour by its name; without a name of its last stage.

    "eliza" needs no tour. Raises ValueError that says what there is, and how to get more.

    >>> find_speaker("eliza").name
    'eliza'
    """
    stages = trained_stages()
    if checkpoint is None:
        if not stages:
            raise ValueError(
                "nothing is trained yet: `minillm tour` trains the whole road in minutes, `minillm chat eliza` needs "
                "no training"
            )
        return load_speaker(list(stages.values())[-1])
    name = str(checkpoint)
    if name in stages:
        return load_speaker(stages[name])
    if name == "eliza":
        return ElizaSpeaker()
    if name in STAGES:
        raise ValueError(f"{name!r} is not trained yet: run `minillm tour`. {_what_there_is(stages)}")
    folder = Path(name).expanduser()
    if not (folder / CARD).is_file():
        raise ValueError(
            f"{name!r} is neither the folder of a speaker (there is no {CARD} in it) nor a stage of a tour "
            f"({', '.join(STAGES)}). {_what_there_is(stages)}"
        )
    return load_speaker(folder)


def trained_stages() -> dict[str, Path]:
    """The stages of the newest tour that are there, in their order: name → folder.

    Where no file says which tour is the newest, it is for each stage the folder that was written last.
    """
    tour = learner_folder() / "tour"
    try:
        named = json.loads((tour / NEWEST).read_text("utf-8"))["stages"]
        folders = {stage: tour / Path(named[stage]).name for stage in STAGES if stage in named}
    except (OSError, ValueError, KeyError, TypeError):
        folders = {}
        for stage in STAGES:
            found = [path for path in tour.glob(f"{stage}-*") if (path / CARD).is_file()]
            if found:
                folders[stage] = max(found, key=lambda path: (path / CARD).stat().st_mtime)
    return {stage: folder for stage, folder in folders.items() if (folder / CARD).is_file()}


def chat_command(checkpoint: str | None, temperature: float | None = None) -> int:
    """What `minillm chat` does."""
    if temperature is not None and not 0 <= temperature <= 10:
        raise ValueError(f"--temperature {temperature:g}: a number from 0 to 10 works, such as 0.7")
    import torch

    with contextlib.suppress(ImportError):  # lines can be edited, and earlier ones fetched again; not on Windows
        import readline  # noqa: F401
    torch.set_num_threads(1)  # models this small lose more by sharing work between cores than they win
    speaker, mine = find_speaker(checkpoint), learner_folder()
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show or send a character ends nothing
    TerminalChat(
        speaker,
        folder=mine / "conversations",
        likes=mine / "likes.jsonl",
        temperature=TEMPERATURE if temperature is None else temperature,
    ).run()
    return 0


def _what_there_is(stages: dict[str, Path]) -> str:
    there = [*stages] if "eliza" in stages else ["eliza", *stages]
    return f"There is: {', '.join(there)}"
