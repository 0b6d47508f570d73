"""The tour end to end: killed and resumed, damaged, interrupted, changed, clicked; every stage can be talked to."""

import errno
import json
import os
import random
import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch
from small_tours import TINY, clicked, forked

from minillm.adaptation.chat_template import conversation
from minillm.core.locks import alone
from minillm.course import cli, tour, tour_aside, tour_bench
from minillm.course.tour import run_tour
from minillm.course.tour_config import STAGES
from minillm.course.tour_folder import TourFolder
from minillm.course.tour_reward import best_of, likeliest_of, the_reward, worth_gained, worths
from minillm.course.tour_sft import answering, draw
from minillm.course.tour_text import SHRUG
from minillm.speaker_files import load_speaker


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A tour that nobody interrupted: its folder and its rows."""
    folder = tmp_path_factory.mktemp("tour")
    return folder, run_tour(TINY, folder)


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of it, to be spoilt."""
    shutil.copytree(whole[0], tmp_path / "tour")
    return tmp_path / "tour"


def weights(folder):
    """Every byte of every model of a tour, by stage and file."""
    files = [path for path in folder.glob("*/parts-*/**/*") if path.is_file()]
    return {f"{path.relative_to(folder).parts[0]}/{path.name}": path.read_bytes() for path in files}


def test_a_tour_has_a_row_for_each_stage(whole):
    _, rows = whole
    assert [row.name for row in rows] == list(STAGES)
    assert [row.bits_per_character is None for row in rows] == [True, False, False, False, False, False, True, False]
    assert all(row.above_floor is None or row.above_floor > 0 for row in rows)
    assert [row.name for row in rows if row.invented is not None] == ["eliza", "gpt", "sft", "rm", "ppo"]
    assert [row.name for row in rows if row.reward is not None] == ["gpt", "sft", "rm", "ppo"]
    assert [row.name for row in rows if row.kl is not None] == ["sft", "rm", "ppo"]
    assert rows[5].kl == 0 < rows[7].kl


def test_the_best_of_n_is_the_one_that_scores_highest(whole):
    bench = tour_bench.Bench(TourFolder(TINY, whole[0]), print)
    model, reward, prompts = answering(bench), the_reward(bench), ["Where does Olga live?", "What is 1 + 2?"]
    drawn = draw(model, [bench.text.prompt(p) for p in prompts for _ in range(2)], bench.text.stop, TINY.seed + 3)
    best = best_of(bench, model, reward)(prompts)
    for i, prompt in enumerate(prompts):
        scores = reward.score([bench.text.prompt(prompt)] * 2, drawn[2 * i : 2 * i + 2]).tolist()
        assert best[i] == bench.text.plain(drawn[2 * i + scores.index(max(scores))])


def test_every_stage_can_be_talked_to(whole):
    folder, _ = whole
    for stage in STAGES:
        speaker = load_speaker(TourFolder(TINY, folder).path(stage))
        said = speaker.reply(
            conversation("Where does Olga live?"), temperature=1.0, generator=torch.Generator().manual_seed(0)
        )
        assert speaker.name == stage
        assert isinstance("".join(said), str)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process that can be forked and killed")
def test_killed_at_random_moments_it_ends_with_the_same_numbers(whole, tmp_path):
    folder, rows = whole
    chance, killed = random.Random(2), 0
    for _ in range(6):
        child, changes, seen, ended = forked(tmp_path), chance.randrange(1, 9), -1, False
        while changes and not ended:  # a moment in the life of the folder, not of the clock
            there = sum(len(folders) + len(files) for _, folders, files in os.walk(tmp_path))
            changes, seen = changes - (there != seen), there
            ended = os.waitpid(child, os.WNOHANG)[0] == child
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 0.05))
        if not ended:
            os.kill(child, signal.SIGKILL)
            killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    told = []
    again = run_tour(TINY, tmp_path, told.append)
    assert again == rows
    assert weights(tmp_path) == weights(folder)
    assert killed >= 4
    assert not list(tmp_path.glob("*damaged*"))


def test_a_finished_tour_is_read_and_not_trained_again(copied, whole, monkeypatch):
    monkeypatch.setattr(tour, "_MAKE", {})
    told = []
    again = run_tour(TINY, copied, told.append)
    assert again == whole[1]
    assert [row.seconds for row in again] == [row.seconds for row in whole[1]]
    assert told == []


def test_a_changed_decision_trains_what_depends_on_it(copied, whole):
    told = []
    again = run_tour(replace(TINY, beta=5.0), copied, told.append)
    assert [s.split()[0] for s in told if "trained:" in s] == ["ppo"]
    assert again[:7] == whole[1][:7]
    assert again[7] != whole[1][7]


def test_a_damaged_model_is_told_and_trained_again_with_the_same_numbers(copied, whole):
    path = TourFolder(TINY, copied).path("gpt")
    (file,) = path.glob("parts-*/*.safetensors")
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(bytes(data))
    told = []
    assert run_tour(TINY, copied, told.append) == whole[1]
    assert "damaged" in told[0]
    assert [s.split()[0] for s in told if "trained:" in s] == ["gpt"]
    assert len(list(copied.glob("*.damaged-1"))) == 1


def test_a_damaged_checkpoint_is_told_and_the_stage_begins_again(whole, tmp_path, monkeypatch):
    stop_after(monkeypatch, "sft", 5)
    with pytest.raises(KeyboardInterrupt):
        run_tour(TINY, tmp_path)
    monkeypatch.undo()
    for file in (TourFolder(TINY, tmp_path).path("sft") / "run").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    told = []
    assert run_tour(TINY, tmp_path, told.append) == whole[1]
    assert any("begins again" in sentence for sentence in told)


def stop_after(monkeypatch, stage, steps, error=KeyboardInterrupt):
    """Raise in a stage after so many steps."""

    class Stopping(tour_bench.Bar):
        def __init__(self, label, steps, start=0, unit="steps"):
            super().__init__(label, steps, start, unit)
            self.label, self.done = label, start

        def __call__(self, row=None):
            self.done += 1
            if self.label == stage and self.done == steps:
                raise error

    monkeypatch.setattr(tour_bench, "Bar", Stopping)


def test_it_goes_on_from_the_last_checkpoint_and_not_from_the_start(whole, tmp_path, monkeypatch):
    stop_after(monkeypatch, "gpt", 6)
    with pytest.raises(KeyboardInterrupt):
        run_tour(TINY, tmp_path)
    monkeypatch.undo()
    starts = []
    bar = tour_bench.Bar
    monkeypatch.setattr(tour_bench, "Bar", lambda *a, **k: starts.append((a[0], a[2])) or bar(*a, **k))
    assert run_tour(TINY, tmp_path) == whole[1]
    assert starts[0] == ("gpt", 5)


def test_the_command_line_says_what_happened(whole, copied, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINILLM_FOLDER", str(copied.parent))
    monkeypatch.setattr(tour.TourConfig, "quick", classmethod(lambda cls: TINY))
    assert cli.main(["tour", "--quick", "--out", str(tmp_path / "out.json")]) == 0
    said = capsys.readouterr().out
    assert "minillm chat NAME" in said
    assert "bits/char" in said
    assert f"There from before: {', '.join(STAGES)}." in said and "Meanwhile" not in said and "trained" not in said
    assert all(
        word in tour.LEGEND for word in ("bits/char", "above", "followed", "invented", "worth", "reward", "KL", "J ")
    )
    assert max(map(len, tour.LEGEND.split("\n"))) < 80
    stored = json.loads((tmp_path / "out.json").read_text())
    assert [row["name"] for row in stored["rows"]] == list(STAGES)
    assert cli.main(["tour", "--quick", "--clicks", str(tmp_path / "none.jsonl")]) == 2
    assert "is not there" in capsys.readouterr().err


def test_long_lines_are_broken_between_words_in_a_terminal(monkeypatch):
    line = "window  yes  window of 8 words: closes 22% of the way that ngram left to the floor; 0.157 above it"
    assert tour._fitting(line) == line, "a file is no terminal"
    monkeypatch.setattr(tour.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    first, *more = tour._fitting(line).split("\n")
    assert more and all(part.startswith(" " * 13) for part in more) and max(map(len, [first, *more])) <= 60
    assert " ".join([first, *(part.strip() for part in more)]) == line


def test_a_full_disk_and_control_c_lose_nothing(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tour_aside, "usable_cores", lambda: 1)
    monkeypatch.setenv("MINILLM_FOLDER", str(tmp_path))
    monkeypatch.setattr(tour.TourConfig, "quick", classmethod(lambda cls: TINY))
    full = OSError(errno.ENOSPC, "No space left on device")
    for stage, error, status, word in (("window", full, 1, "make room"), ("gpt", KeyboardInterrupt, 130, "Stopped")):
        stop_after(monkeypatch, stage, 3, error)
        assert cli.main(["tour", "--quick"]) == status
        err = capsys.readouterr().err
        assert word in err
        assert "Nothing finished is lost" in err
    monkeypatch.undo()
    assert run_tour(TINY, tmp_path / "tour") == whole[1]


def test_again_forgets_these_stages_first(copied, whole, monkeypatch, capsys):
    monkeypatch.setattr(tour_aside, "usable_cores", lambda: 1)
    monkeypatch.setenv("MINILLM_FOLDER", str(copied.parent))
    monkeypatch.setattr(tour.TourConfig, "quick", classmethod(lambda cls: TINY))
    made = []
    monkeypatch.setattr(tour, "_MAKE", {name: lambda bench, name=name: made.append(name) or whole_measure(name, whole)
                                        for name in STAGES})  # fmt: skip
    assert cli.main(["tour", "--quick", "--again"]) == 0
    assert made == list(STAGES)


def whole_measure(name, whole):
    return TourFolder(TINY, whole[0]).read(name)


def test_clicks_move_the_reward_and_only_what_comes_after_it(copied, tmp_path):
    line = '{{"prompt": "{}", "answers": ["{}", "{}"], "choice": {}, "who": "me"}}\n'
    told = "Where does Greta live?"
    silent, bold = tmp_path / "silent.jsonl", tmp_path / "bold.jsonl"
    for path, choice in ((silent, 0), (bold, 1)):
        path.write_text(line.format(told, SHRUG, "Greta lives by the hill.", choice) * 6)
    scores = {}
    for path in (silent, bold):
        rows = clicked(copied, path)
        bench = tour_bench.Bench(TourFolder(replace(TINY, clicks=path), copied), print)
        prompt, answers = bench.text.prompt(told), [SHRUG, "Greta lives by the hill."]
        raw = the_reward(bench).raw_scores([prompt] * 2, [bench.text.answer(a) for a in answers])
        scores[path.stem] = float(raw[0] - raw[1])
        assert "clicks read: 6" in rows[6].verdict
        assert "1 held back guessed" in rows[6].verdict
    assert scores["silent"] > scores["bold"] + 0.05
    assert len(list(copied.glob("sft-*"))) == 1
    assert len(list(copied.glob("rm-*"))) == 3


def test_one_click_is_enough_and_a_torn_line_is_told(copied, tmp_path):
    path = tmp_path / "likes.jsonl"
    path.write_text('{"prompt": "Wherefore?", "answers": ["a hen", "a cat"], "choice": 1, "who": "me"}\n{"prom')
    told = []
    rows = run_tour(replace(TINY, clicks=path), copied, told.append)
    assert "clicks read: 1" in rows[6].verdict
    assert "too few to hold any back" in rows[6].verdict
    assert any("Half a line" in sentence for sentence in told)


def test_what_answers_are_worth_is_what_the_labeller_finds_in_them(whole, monkeypatch):
    bench = tour_bench.Bench(TourFolder(TINY, whole[0]), print)
    said = bench.replies("sft")
    right = [one.answer for one in bench.exam.instructions] + [SHRUG] * len(bench.exam.unknown)
    n, told = len(right), len(bench.exam.instructions)
    assert worths(bench, right) == [1.0] * told + [0.0] * (n - told)
    assert worths(bench, [SHRUG] * n) == [0.0] * n
    assert worths(bench, ["Nobody knows it better."] * n) == [TINY.wrong] * n
    rows = whole[1]
    assert rows[5].worth == pytest.approx(sum(worths(bench, said)) / n)
    found = worth_gained(bench, "rm")
    assert found["gain"] == pytest.approx(found["worth"] - rows[5].worth)
    assert found["worth"] == rows[6].worth
    assert the_reward(bench).reads_likelihood
    monkeypatch.setattr(bench, "replies", lambda stage: right if stage == "ppo" else [SHRUG] * n)
    assert worth_gained(bench, "ppo")["gain"] == pytest.approx(told / n)


def test_the_likeliest_of_n_is_the_judge_that_nobody_taught(whole):
    bench = tour_bench.Bench(TourFolder(TINY, whole[0]), print)
    model, prompts = answering(bench), ["Where does Olga live?", "What is 1 + 2?"]
    drawn = draw(model, [bench.text.prompt(p) for p in prompts for _ in range(2)], bench.text.stop, TINY.seed + 3)
    for i, (prompt, said) in enumerate(zip(prompts, likeliest_of(bench, model)(prompts), strict=True)):
        rows = [bench.text.prompt(prompt)] * 2
        logp = [next_log(model, row, answer) for row, answer in zip(rows, drawn[2 * i : 2 * i + 2], strict=True)]
        assert said == bench.text.plain(drawn[2 * i + logp.index(max(logp))])


def next_log(model, prompt, answer):
    """log p of an answer, token after token."""
    logits_bv = [model.logits(torch.tensor([prompt + answer[:i]]))[0, -1] for i in range(len(answer))]
    return sum(z_v.log_softmax(-1)[token].item() for z_v, token in zip(logits_bv, answer, strict=True))


def test_two_tours_in_one_folder_take_turns(copied, whole, monkeypatch, capsys):
    monkeypatch.setenv("MINILLM_FOLDER", str(copied.parent))
    monkeypatch.setattr(tour.TourConfig, "quick", classmethod(lambda cls: TINY))
    with alone(copied / tour.LOCK):
        assert cli.main(["tour", "--quick", "--again"]) == 1  # and forgets nothing
        assert "another tour works in" in capsys.readouterr().err
        with pytest.raises(TimeoutError):
            run_tour(TINY, copied)
    assert run_tour(TINY, copied) == whole[1]
