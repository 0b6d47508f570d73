"""The pretraining command from end to end: it learns and says so, and goes on where it was killed, also by two."""

import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys

import pytest
import torch

from minillm.statistical.ngram import NGramModel
from minillm.text.corpus import load_corpus
from minillm.training import hardware
from minillm.training import pretrain as command
from minillm.training.checkpoint import load_checkpoint, saved_steps
from minillm.training.distributed import process_group
from minillm.training.pretrain import PRESETS, Settings, main, pretrain
from minillm.training.pretrain_data import END, PretrainData, Sliding, load, prepare
from minillm.training.profile import mfu
from minillm.transformer.decoder import Decoder, llama

QUICK = ("--plain", "--characters", "3000", "--judge-every", "1000")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Some of the village's stories as a file: a text that is learned quickly, and whose floor nobody knows."""
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text("\n\n".join(load_corpus("village").documents[:150]), encoding="utf-8")
    return str(path)


def losses(folder):
    return [(row["step"], row["loss"]) for row in map(json.loads, (folder / "log.jsonl").read_text().splitlines())]


def parameters(folder, step=None):
    return load_checkpoint(folder / "checkpoints", step)[1]["parts"]["model"]


@pytest.mark.no_promises
def test_half_a_minute_on_the_village(tmp_path, capsys):
    """What CI shows: far below counting, above the floor, and the same verdict when there is nothing left to do."""
    arguments = ["tiny", "--folder", str(tmp_path / "run"), "--steps", "50", "--batch", "8", "--rows", "8"]
    assert main([*arguments, "--characters", "20000"]) == 0
    said = capsys.readouterr().out
    words = said[said.index("verdict: ") :].splitlines()
    bits, floor, counted = (float(next(w for w in line.split() if w[0].isdigit())) for line in words)
    assert 0.09 < floor < 0.11 < bits < counted < 1.1 and "it has learned more than that" in words[2]
    assert "from the floor)" in said and said.count("sample: ") == 2 and "  bf16 " in said
    assert main([*arguments, "--characters", "20000"]) == 0
    again = capsys.readouterr().out
    assert "going on after step 50" in again and again[again.index("verdict: ") :] == said[said.index("verdict: ") :]
    assert "step     50 of 50" not in again
    assert main(["tiny", "--folder", str(tmp_path / "run"), "--steps", "60"]) == 1
    assert "is of a run with steps=50, this one has steps=60; use those settings again" in capsys.readouterr().err


@pytest.mark.no_promises
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, text, capsys):
    steps = [*QUICK, "--text", text, "--steps", "26", "--batch", "4", "--save-every", "5"]
    assert main(["tiny", "--folder", str(tmp_path / "whole"), *steps]) == 0
    killed = tmp_path / "killed"
    run = subprocess.Popen(
        [sys.executable, "-m", "minillm.training.pretrain", "tiny", "--folder", str(killed), *steps],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )  # fmt: skip
    for line in run.stdout:
        if line.startswith("step     12 "):
            break
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    assert run.returncode == -9 and saved_steps(killed / "checkpoints")[-1] in (10, 15, 20, 25)
    capsys.readouterr()
    assert main(["tiny", "--folder", str(killed), *steps]) == 0
    assert "going on after step" in capsys.readouterr().out
    assert losses(killed) == losses(tmp_path / "whole")
    whole, other = parameters(tmp_path / "whole"), parameters(killed)
    assert all(torch.equal(whole[name], other[name]) for name in whole)


@pytest.mark.no_promises
def test_two_processes_learn_what_one_learns_and_one_goes_on_with_it(tmp_path, text, capsys):
    steps = [*QUICK, "--text", text, "--batch", "6", "--rows", "3", "--steps", "12", "--save-every", "6"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["tiny", "--folder", str(one), *steps]) == 0
    capsys.readouterr()
    assert main(["tiny", "--folder", str(two), *steps, "--processes", "2"]) == 0
    assert "2 processes on cpu" in capsys.readouterr().out
    assert [step for step, _ in losses(two)] == [step for step, _ in losses(one)]
    assert all(math.isclose(a, b, rel_tol=1e-4) for (_, a), (_, b) in zip(losses(one), losses(two), strict=True))
    for name in os.listdir(two / "checkpoints"):
        if "-00000012" in name:
            (two / "checkpoints" / name).unlink()
    assert main(["tiny", "--folder", str(two), *steps]) == 0, "the second half in one process"
    said = capsys.readouterr().out
    assert "1 process on cpu" in said and "going on after step 6" in said
    assert math.isclose(losses(two)[-1][1], losses(one)[-1][1], rel_tol=1e-4)


@pytest.mark.no_promises
@pytest.mark.parametrize("peak", [None, 2e12])
def test_the_share_of_the_peak_is_said_where_the_peak_is_known(tmp_path, text, capsys, monkeypatch, peak):
    asked = []
    monkeypatch.setattr(hardware, "peak_rate", lambda device: asked.append(device) or peak)
    arguments = ["tiny", "--folder", str(tmp_path), *QUICK, "--text", text, "--steps", "4", "--batch", "3"]
    assert main(arguments) == 0 and asked == ["cpu"]
    said = capsys.readouterr().out
    assert ("MFU" in said) == (peak is not None)
    if peak is not None:
        rate, share = re.search(r"speed: +([\d,]+) tokens/s at the end, MFU ([\d.]+)% of 1 x 2 TFLOP/s", said).groups()
        config = PRESETS["tiny"].config(load(tmp_path, text, characters=100).shards.vocabulary)
        seconds = 3 * config.context / float(rate.replace(",", ""))
        assert float(share) / 100 == pytest.approx(mfu(config, batch=3, t=128, seconds=seconds, peak=peak), abs=1e-3)
        assert main(arguments) == 0 and "MFU" not in capsys.readouterr().out, "nothing was left to do, nor to time"


# the parts ----------------------------------------------------------------------------------------------------------


def test_a_row_longer_than_the_context_is_read_in_windows():
    model = Decoder(llama(vocabulary=13, context=8, n_layer=2, n_head=2, d_model=12)).eval()
    for t in (3, 8, 9, 12, 13, 30):
        tokens_bt = torch.randint(13, (2, t), generator=torch.Generator().manual_seed(t))
        logits_btv = Sliding(model).logits(tokens_bt)
        assert logits_btv.shape == (2, t, 13)
        for place in range(t):  # each place sees what is before it, at least half a context of it, and nothing after
            ways = [model(tokens_bt[:, begin : place + 1])[:, -1] for begin in range(max(0, place - 7), place + 1)]
            same = [bool(torch.allclose(logits_btv[:, place], way, atol=1e-5)) for way in ways]
            assert any(same[: max(1, len(same) - 4)]), (t, place)


def test_the_measure_counts_every_character_and_every_end(tmp_path):
    """A model without an opinion needs log₂ v bits for every token, the end of each document among them."""
    prepare(tmp_path, "village", vocabulary=300)
    data = load(tmp_path, "village", characters=2000)
    model = Decoder(llama(vocabulary=data.shards.vocabulary, context=16, n_layer=1, n_head=2, d_model=8))
    with torch.no_grad():
        model.score.weight.zero_()
    tokens = sum(len(data.tokenizer.encode(document)) + 1 for document in data.held_out)
    characters = sum(map(len, data.held_out))
    assert 2000 <= characters < 4000
    assert math.isclose(data.bits(model), tokens * math.log2(data.shards.vocabulary) / characters, rel_tol=1e-5)
    assert data.floor() < data.counted() < data.bits(model)
    sizes = itertools.accumulate(map(len, data.train))
    enough = 1 + next(i for i, size in enumerate(sizes) if size >= 1_000_000)
    counting = NGramModel(order=5, smoothing="kneser-ney").fit([list(document) for document in data.train[:enough]])
    bits = math.log2(counting.perplexity([list(document) for document in data.held_out]))  # a character or an end
    assert math.isclose(data.counted(), bits * (characters + len(data.held_out)) / characters, rel_tol=1e-9)


def test_what_was_made_once_is_found_again_and_half_of_it_is_made_again(tmp_path, text):
    prepare(tmp_path, text, vocabulary=280)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}
    prepare(tmp_path, text, vocabulary=999)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()} == before
    (tmp_path / "data" / "index.json").unlink()  # killed before the index
    prepare(tmp_path, text, vocabulary=280)
    data = load(tmp_path, text, characters=100)
    assert len(data.tokenizer.vocab) == 280 and data.floor() is None and data.tokenizer.special_ids[END] == data.end
    with pytest.raises(ValueError, match=r"belongs to a run on another text .* or another --folder"):
        prepare(tmp_path, "stories", vocabulary=280)


def test_a_tokenizer_that_is_there_is_used(tmp_path, text):
    prepare(tmp_path / "a", text, vocabulary=290)
    prepare(tmp_path / "b", text, vocabulary=400, tokenizer=tmp_path / "a" / "tokenizer.json")
    assert (
        load(tmp_path / "b", text, characters=100).tokenizer.merges
        == load(tmp_path / "a", text, characters=1).tokenizer.merges
    )
    from minillm.text.bpe import BPETokenizer

    BPETokenizer.train("abab", 260).save(tmp_path / "plain.json")
    with pytest.raises(ValueError, match="has no special token"):
        prepare(tmp_path / "c", text, vocabulary=400, tokenizer=tmp_path / "plain.json")


def test_one_document_cannot_be_judged(tmp_path):
    (tmp_path / "one.txt").write_text("only one line, and no other")
    with pytest.raises(ValueError, match="is one document, and one must be left out"):
        prepare(tmp_path / "run", str(tmp_path / "one.txt"), vocabulary=300)


def settings(**changes):
    options = {"steps": 10, "batch": 12, "rows": 4, "learning_rate": 0.01, "folder": "x"} | changes
    return Settings(**options)


@pytest.mark.parametrize(
    ("batch", "rows", "parts", "wanted"), [(12, 4, 1, 3), (12, 4, 3, 1), (12, 99, 2, 1), (512, 16, 8, 4)]
)
def test_a_step_reads_the_same_rows_however_they_are_cut(batch, rows, parts, wanted):
    assert settings(batch=batch, rows=rows).accumulate(parts) == wanted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": "huge"}, r"preset='huge' must be one of tiny, small, medium, gpt2-124m"),
        ({"steps": 0}, r"steps=0 must be a whole number of at least 1; steps=200 works"),
        ({"parallel": "fsdp"}, r"optimizer='muon' needs whole matrices, .* --optimizer adamw"),
    ],
)
def test_settings_that_cannot_be(changes, said):
    with pytest.raises(ValueError, match=said):
        settings(**changes)


def test_batches_that_cannot_be_cut():
    with pytest.raises(
        ValueError, match=r"batch=12 rows cannot be cut into equal parts of rows=5 for 1 .*--batch 10 can"
    ):
        settings(rows=5).accumulate(1)
    with pytest.raises(ValueError, match=r"for 5 processes; --batch 10 can"):
        settings(rows=4).accumulate(5)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_what_they_say(name):
    preset = PRESETS[name]
    config = preset.config(preset.vocabulary)
    assert preset.batch % preset.rows == 0
    if name != "gpt2-124m":
        millions = Decoder(config).n_parameters / 1e6
        assert f"{millions:.1f} million" in preset.about or f"{millions:.0f} million" in preset.about, millions


def test_help_does_not_wait_for_torch_and_names_every_preset(capsys):
    code = "import sys, minillm.training.pretrain as p; p._parser().print_help(); print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("False\n") and all(name in shown for name in PRESETS) and "goes on" in shown


def test_mistakes_on_the_command_line_are_one_line(tmp_path, capsys):
    for arguments, said in [
        (["tiny", "--text", "no such text"], "is neither a file, nor a folder, nor a name"),
        (["tiny", "--optimizer", "adamw"], "needs a --learning-rate of its own"),
        (["tiny", "--steps", "0"], "steps=0 must be a whole number of at least 1; steps=200 works"),
        (["tiny", "--batch", "13", "--rows", "5", "--text", "village"], "--batch 10 can"),
    ]:
        assert main([*arguments, "--folder", str(tmp_path / "x")]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_an_interrupt_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "pretrain", interrupted)
    assert main(["tiny", "--folder", str(tmp_path)]) == 130
    assert "The same command goes on from the last checkpoint" in capsys.readouterr().err
    assert not torch.distributed.is_initialized()


def test_a_notebook_can_call_it(tmp_path, text):
    with process_group() as process:
        found = pretrain(settings(folder=tmp_path, text=text, steps=3, batch=2, characters=500, plain=True), process)
    assert found["floor"] is None and 0 < found["counted"] < 9 and 0 < found["bits"] < 12
    assert isinstance(load(tmp_path, text, characters=1), PretrainData)
