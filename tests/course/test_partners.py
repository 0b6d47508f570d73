"""Who can be talked to: a folder, a stage of the newest tour, Eliza; and a clear word where there is nobody."""

import io
import json
import os
import sys

import pytest
from small_speakers import KINDS, ngram_speaker, text_speaker, window

from minillm.alignment.preferences import read_comparisons
from minillm.course.cli import main
from minillm.course.partners import find_speaker, trained_stages
from minillm.course.places import FOLDER
from minillm.history import earlier
from minillm.speaker_files import save_speaker
from minillm.speakers import ElizaSpeaker


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path


def stage(mine, name, key, speaker, when):
    folder = mine / "tour" / f"{name}-{key}"
    save_speaker(speaker, folder)
    os.utime(folder / "speaker.json", (when, when))
    return folder


def test_nothing_is_trained_yet(mine, capsys):
    assert trained_stages() == {} and isinstance(find_speaker("eliza"), ElizaSpeaker)
    for words, says in (
        ([], "nothing is trained yet"),
        (["ppo"], "'ppo' is not trained yet: run `minillm tour`. There is: eliza"),
        (["nowhere"], "neither the folder of a speaker"),
        ([str(mine)], "neither the folder of a speaker"),
        (["eliza", "--temperature", "-1"], "a number from 0 to 10"),
    ):
        assert main(["chat", *words]) == 2
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1
    assert list(mine.iterdir()) == []


def test_stages_of_the_newest_tour(mine):
    old = stage(mine, "ngram", "111111111111", ngram_speaker(name="old"), 1000)
    stage(mine, "ngram", "222222222222", ngram_speaker(name="new"), 2000)
    stage(mine, "window", "333333333333", text_speaker(window, name="window"), 1500)
    (mine / "tour" / "gpt-444444444444").mkdir()
    assert [*trained_stages()] == ["ngram", "window"], "in the order of a tour; what is on its way is not there"
    assert find_speaker("ngram").name == "new" and find_speaker().name == "window"
    (mine / "tour" / "newest.json").write_text(json.dumps({"stages": {"ngram": old.name, "gpt": "gpt-444444444444"}}))
    assert find_speaker("ngram").name == "old" and [*trained_stages()] == ["ngram"], "the tour itself says which"
    (mine / "tour" / "newest.json").write_text('{"stages": {"ngram": "../../ngram-1"')
    assert find_speaker("ngram").name == "new", "a note that cannot be read says nothing"
    assert find_speaker(old).name == "old" and find_speaker(str(old)).name == "old"


def test_a_damaged_stage_is_told(mine, capsys):
    folder = stage(mine, "sft", "555555555555", KINDS["chat"](), 1000)
    next(folder.glob("parts-*/model.safetensors")).write_bytes(b"")
    assert main(["chat", "sft"]) == 2
    assert "was cut or changed" in capsys.readouterr().err


def test_a_chat_from_the_command_line(mine, capsys, monkeypatch):
    lines = ["I remember the old mill.", "/dislike", "/like", "/temperature", "/quit"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    assert main(["chat", "eliza", "--temperature", "0.4"]) == 0
    said = capsys.readouterr().out
    assert "What made you think of the old mill today?" in said and "The temperature is 0.4." in said
    assert len(read_comparisons(mine / "likes.jsonl")) == 1
    assert [one.question for one in earlier(mine / "conversations", "eliza")] == ["I remember the old mill."]
