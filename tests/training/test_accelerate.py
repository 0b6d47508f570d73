"""Every means computes what its plain twin computes; what cannot be here is left out, and said."""

import copy
import subprocess
import sys

import pytest
import torch
from decoder_kinds import GPT2, KINDS, V, lively, some_tokens
from needs_cuda import cuda
from small_regression import Regression, data
from torch.testing import assert_close

from minillm.core import runtime
from minillm.core.runtime import Choice, pick_dtype, processor_features
from minillm.training import accelerate as file
from minillm.training import hardware
from minillm.training.accelerate import accelerate, carry, one_ahead
from minillm.training.hardware import choose_compile, choose_memory, choose_threads, usable_cores
from minillm.training.loop import evaluate, train
from minillm.transformer.decoder import Decoder

PLAIN = {"bf16": False, "compile": False, "fused": False, "sdpa": False, "tf32": False, "threads": 1}
PLAIN |= {"memory": False, "say": None}


def some_batches(count=3):
    return [some_tokens(2, 9, seed=i) for i in range(count)]


def losses(config=GPT2, device="cpu", steps=6, **means):
    fast = accelerate(Decoder(config), device=device, **(PLAIN | means))
    optimizer = fast.adamw(learning_rate=1e-2)
    return [
        r.loss for r in train(fast, fast.batches(some_batches() * steps), steps=steps, optimizer=optimizer, clip=1.0)
    ]


MEANS = {
    "the fused optimiser": ({"fused": True}, 1e-5),
    "attention as one kernel": ({"sdpa": True}, 1e-5),
    "checkpointing": ({"checkpointing": True}, 1e-6),
    "bf16": ({"bf16": True}, 3e-2),
}


@pytest.mark.parametrize(("means", "tolerance"), MEANS.values(), ids=MEANS)
def test_each_means_learns_what_its_plain_twin_learns(means, tolerance):
    plain, fast = losses(), losses(**means)
    assert_close(fast, plain, rtol=tolerance, atol=0)
    assert plain[-1] < plain[0] - 0.1, "and something is learned"


@pytest.mark.slow
def test_the_compiled_loss_is_the_loss():
    if (can := choose_compile("cpu")).value == "no":
        pytest.skip(can.why)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's own
        assert_close(losses(compile=True, steps=3), losses(steps=3), rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed_blocks_have_the_same_gradients(kind):
    model = lively(KINDS[kind])
    batch, grads = some_tokens(2, 9), []
    for checkpointing in (False, True, False):
        fast = accelerate(model, device="cpu", **(PLAIN | {"checkpointing": checkpointing}))
        model.zero_grad()
        fast.loss(batch).backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters()})
        assert list(grads[0]) == list(grads[-1]), "the names stay"
    for name, g in grads[0].items():
        assert_close(grads[1][name], g)
        assert torch.equal(grads[2][name], g), "and it can be switched off again"


def test_checkpointing_computes_blocks_twice_and_caches_are_written_once(monkeypatch):
    model, calls = lively(GPT2), []
    real = file.Block.forward
    monkeypatch.setattr(file.Block, "forward", lambda *a, **k: calls.append(1) or real(*a, **k))
    accelerate(model, device="cpu", **(PLAIN | {"checkpointing": True})).loss(some_tokens(2, 9)).backward()
    assert len(calls) == 2 * GPT2.n_layer
    calls.clear()
    cache = model.new_cache()
    model.hidden(some_tokens(2, 5), cache).sum().backward()
    assert len(calls) == GPT2.n_layer and cache.length == 5


def test_a_copy_of_a_checkpointed_model_is_its_own():
    model = lively(GPT2)
    accelerate(model, device="cpu", **(PLAIN | {"checkpointing": True}))
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert float(other.loss(some_tokens(2, 9)).detach()) == pytest.approx(torch.tensor(float(V)).log().item(), rel=1e-5)


def test_bf16_keeps_weights_and_gradients_in_float32():
    model = lively(GPT2)
    fast = accelerate(model, device="cpu", **(PLAIN | {"bf16": True}))
    fast.loss(some_tokens(2, 9)).backward()
    assert {p.dtype for p in model.parameters()} == {p.grad.dtype for p in model.parameters()} == {torch.float32}


def test_it_trains_any_model_with_a_loss():
    model, batch = Regression(), data()
    plain = Regression()
    fast = accelerate(model, device="cpu", **PLAIN)
    assert evaluate(fast, [batch]) == evaluate(plain, [batch])
    assert fast.choices["sdpa"].value == "no"


# choices ------------------------------------------------------------------------------------------------------------


def test_it_says_once_what_it_chose_and_why():
    said = []
    fast = accelerate(Decoder(GPT2), device="cpu", threads=1, compile=False, say=said.append)
    fast.loss(some_tokens(2, 9))
    assert said == [str(fast)]
    assert [line.split()[0] for line in said[0].splitlines()] == list(fast.choices)
    assert all("(" in line for line in said[0].splitlines())


@pytest.mark.parametrize("wanted", [None, True])
def test_without_native_bf16_it_stays_in_float32(monkeypatch, wanted):
    monkeypatch.setattr(runtime, "processor_features", lambda: {"avx2", "avx512f"})
    fast = accelerate(Decoder(GPT2), device="cpu", **(PLAIN | {"bf16": wanted}))
    assert str(fast.choices["bf16"]) == "float32 (this processor is not known to multiply bfloat16 natively)"
    monkeypatch.setattr(runtime, "processor_features", lambda: {"avx2", "avx512_bf16"})
    assert pick_dtype("cpu", fastest=True).value == "bfloat16" and pick_dtype("cpu").value == "float32"


def test_processors_are_read_as_linux_writes_them(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("model name\t: amx_bf16 in name only\nflags\t\t: fpu avx512_bf16\n\nFeatures : asimd bf16\n")
    assert processor_features(file) == {"fpu", "avx512_bf16", "asimd", "bf16"}
    assert processor_features(tmp_path / "none") == set()


def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch):
    monkeypatch.setattr(hardware.shutil, "which", lambda name: None)
    fast = accelerate(Decoder(GPT2), device="cpu", **(PLAIN | {"compile": True}))
    assert fast.choices["compile"].value == "no" and "no C++ compiler answers" in fast.choices["compile"].why
    assert fast.loss(some_tokens(2, 9)).isfinite()


def test_without_pythons_headers_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware.shutil, "which", lambda name: "/bin/g++")
    monkeypatch.setattr(hardware.sysconfig, "get_path", lambda name: str(tmp_path))
    assert "headers are missing" in choose_compile("cpu").why
    (tmp_path / "Python.h").touch()
    assert choose_compile("cpu").value == "yes"


def test_a_compiler_that_fails_is_left_out(monkeypatch):
    def broken(function, mode):
        def call(batch):
            raise RuntimeError("the linker is missing\nand more")

        return call

    monkeypatch.setattr(file, "choose_compile", lambda device: Choice(value="yes", why="pretended"))
    monkeypatch.setattr(torch, "compile", broken)
    said, plain = [], Decoder(GPT2)
    fast = accelerate(Decoder(GPT2), device="cpu", **(PLAIN | {"compile": True, "say": said.append}))
    for batch in some_batches():
        assert fast.loss(batch) == plain.loss(batch) or torch.allclose(fast.loss(batch), plain.loss(batch))
    assert len(said) == 2 and "it failed, and the run goes on without: RuntimeError: the linker is missing" in said[1]


def test_compiled_code_does_not_look_at_tokens_so_they_are_looked_at_before(monkeypatch):
    monkeypatch.setattr(file, "choose_compile", lambda device: Choice(value="yes", why="pretended"))
    monkeypatch.setattr(torch, "compile", lambda function, mode: lambda batch: torch.zeros(()))
    fast = accelerate(Decoder(GPT2), device="cpu", **(PLAIN | {"compile": True}))
    assert fast.loss(some_tokens(2, 9)) == 0
    with pytest.raises(ValueError, match="not in the vocabulary"):
        fast.loss(torch.full((2, 9), V))


def test_threads_are_those_that_are_ours(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "usable_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert choose_threads().value == "6" and choose_threads(2).value == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert choose_threads().why == "OMP_NUM_THREADS is set"
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert hardware._quota(tmp_path / "cpu.max") == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert hardware._quota(tmp_path / "cpu.max") > 10**6 and usable_cores() >= 1


@pytest.mark.parametrize(
    ("means", "message"),
    [({"device": "tpu"}, "device='tpu'"), ({"compile": "quickly"}, "compile='quickly'"), ({"threads": 0}, "threads=0")],
)
def test_what_is_refused(means, message):
    with pytest.raises(ValueError, match=message):
        accelerate(Decoder(GPT2), **({"device": "cpu", "say": None} | means))


# carrying -----------------------------------------------------------------------------------------------------------


def test_batches_are_one_ahead_and_all_come_in_order():
    taken = []

    def source():
        for i in range(4):
            taken.append(i)
            yield torch.tensor(i)

    stream = one_ahead(source(), "cpu", pinned=False)
    assert int(next(stream)) == 0 and taken == [0, 1]
    assert [int(x) for x in stream] == [1, 2, 3]
    assert list(one_ahead([], "cpu", pinned=False)) == []


def test_all_that_is_in_a_batch_is_carried():
    batch = {"x": (torch.ones(2), [torch.zeros(1)]), "n": 3, "none": None}
    carried = carry(batch, "meta")
    assert carried["x"][0].device.type == carried["x"][1][0].device.type == "meta"
    assert type(carried["x"]) is tuple and (carried["n"], carried["none"]) == (3, None)


# what needs a GPU ---------------------------------------------------------------------------------------------------


@cuda
@pytest.mark.parametrize("means", [{}, {"sdpa": True}, {"fused": True}, {"pinned": True}, {"checkpointing": True}])
def test_on_a_gpu_each_means_learns_what_the_cpu_learns(means):
    assert_close(losses(device="cuda", **({"pinned": False} | means)), losses(), rtol=1e-3, atol=0)


@cuda
@pytest.mark.parametrize("means", [{"bf16": True}, {"tf32": True}, {"bf16": True, "sdpa": True, "fused": True}])
def test_on_a_gpu_short_formats_learn_it_nearly(means):
    assert_close(losses(device="cuda", **means), losses(), rtol=5e-2, atol=0)


@cuda
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_on_a_gpu_the_compiled_loss_is_the_loss(mode):
    assert_close(losses(device="cuda", compile=mode, steps=3), losses(steps=3), rtol=1e-3, atol=0)


@cuda
def test_pinned_batches_arrive_whole():
    batches = [torch.randint(V, (64, 999)) for _ in range(20)]
    for came, sent in zip(one_ahead(batches, "cuda", pinned=True), batches, strict=True):
        assert torch.equal(came.cpu(), sent)


@cuda
def test_checkpointing_needs_less_memory():
    used = []
    for checkpointing in (False, True):
        torch.cuda.reset_peak_memory_stats()
        losses(device="cuda", steps=1, checkpointing=checkpointing)
        used.append(torch.cuda.max_memory_allocated())
    assert used[1] < used[0]


FREED_AGAIN = """
import resource, sys, torch
from minillm.training.hardware import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    (torch.ones(16_000_000) + 1).sum()  # two tensors of 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
new_pages()
print(min(new_pages() for _ in range(6)))
"""


def test_freed_memory_is_taken_again_without_asking_the_system():
    if (can := choose_memory()).value == "no":
        pytest.skip(can.why)

    def pages(how):
        command = [sys.executable, "-c", FREED_AGAIN, how]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert 4 * pages("keep") < pages("leave"), "64 MB are 16,384 small pages, or 32 of the largest"


def test_another_allocator_is_said(monkeypatch):
    monkeypatch.setattr(hardware.platform, "libc_ver", lambda: ("", ""))
    fast = accelerate(Decoder(GPT2), device="cpu", say=None)
    assert fast.choices["memory"] == Choice(value="no", why="this system's allocator has no such switch")
