"""A decoder switched to the Triton kernels gives the same numbers, and goes back; the switch says what it did."""

import pytest
import torch
from decoder_kinds import KINDS, B, T, lively, some_tokens
from kernel_cases import DEVICE
from torch.testing import assert_close

from minillm.kernels import launch
from minillm.transformer.generate import generate
from minillm.transformer.with_kernels import use_kernels

pytestmark = pytest.mark.no_promises  # the interpreter is mostly loops
YES = {  # which kernels each kind of decoder uses, besides that of the loss
    "gpt2": {"flash_attention"},
    "llama 3": {"rms_norm", "rope", "flash_attention"},
    "alibi": set(),
    "window": {"rms_norm", "rope"},
}


@pytest.fixture
def calls(monkeypatch):
    """How often each kernel of minillm is started."""
    from minillm.kernels import cross_entropy, flash_attention, rms_norm, rope

    counted = {}
    for module, name in (
        (rms_norm, "_RMSNorm"),
        (rope, "_Rope"),
        (flash_attention, "_FlashAttention"),
        (cross_entropy, "_Head"),
    ):
        start = getattr(module, name).apply

        def counting(*arguments, _name=name, _start=start):
            counted[_name] = counted.get(_name, 0) + 1
            return _start(*arguments)

        monkeypatch.setattr(getattr(module, name), "apply", counting)
    return counted


@pytest.mark.parametrize("kind", YES)
def test_logits_loss_and_slopes_agree(kind, calls):
    model, tokens = lively(KINDS[kind]).to(DEVICE), some_tokens(B, T + 1).to(DEVICE)
    found = []
    for on in (False, True, False):  # and back again
        calls.clear()
        said = use_kernels(model, on=on)
        model.zero_grad()
        loss = model.loss(tokens)
        loss.backward()
        slopes = {name: p.grad.clone() for name, p in model.named_parameters()}
        found.append((loss.detach(), model(tokens[:, :-1]).detach(), slopes))
        ran = {
            *["rms_norm"] * ("_RMSNorm" in calls),
            *["rope"] * ("_Rope" in calls),
            *["flash_attention"] * ("_FlashAttention" in calls),
        }
        assert ran == (YES[kind] if on else set()) and ("_Head" in calls) == on
        assert {name for name, choice in said.items() if choice.value == "yes"} == (
            YES[kind] | {"cross_entropy"} if on else set()
        )
    plain, kernels, again = found
    assert_close(kernels[0], plain[0], rtol=1e-5, atol=1e-5)
    assert_close(kernels[1], plain[1], rtol=1e-4, atol=1e-4)
    for name, slope in plain[2].items():
        assert_close(kernels[2][name], slope, rtol=1e-3, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
    assert torch.equal(again[1], plain[1])


def test_writing_goes_on_with_a_cache():
    model = lively(KINDS["llama"]).to(DEVICE)
    prompt = some_tokens(1, 5).to(DEVICE)
    plain = generate(model, prompt, 4, temperature=0)
    use_kernels(model)
    assert torch.equal(generate(model, prompt, 4, temperature=0), plain)


def test_where_no_kernel_can_run_it_says_so(monkeypatch):
    monkeypatch.setattr(launch, "INTERPRETED", False)
    model = lively(KINDS["llama"])
    with pytest.raises(RuntimeError, match="the model is on cpu, and Triton compiles for a GPU"):
        use_kernels(model)
    assert model.kernel is None and all(getattr(module, "kernel", None) is None for module in model.modules())
