"""The same training, faster: each means has a switch, and every choice is said once, with its reason.

    fast = accelerate(model)                                             # chooses what fits here, and prints it
    train(fast, fast.batches(chunks), steps=1000, optimizer=fast.adamw(learning_rate=1e-3))

Nothing here changes what is learned but for rounding. A switch is None ("where it helps here"), True or False; with
all of them False this is the plain twin, the model itself. `train(accumulate=…)` gathers the gradient of a large batch
from small ones, on every device.

Paper:   bfloat16 products with float32 weights: Micikevicius et al. 2018, "Mixed Precision Training", §3.1,
         arXiv:1710.03740; activation checkpointing: Chen et al. 2016, arXiv:1604.06174; attention as one kernel:
         Dao et al. 2022, "FlashAttention", arXiv:2205.14135.
Names:   `bf16` is torch's autocast, `sdpa` the fused attention, `checkpointing` keeps what enters a block and computes
         the rest again on the way back.
Differs: bfloat16 has float32's range, so the loss is not scaled as §3.2 of that paper does for float16.
Next:    minillm/training/profile.py
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minillm.core.runtime import Choice, pick_device, pick_dtype
from minillm.neural.language_model import check_tokens
from minillm.training.hardware import choose_compile, choose_memory, choose_threads, keep_freed_memory
from minillm.training.optim import AdamW, decay_matrices_only
from minillm.transformer.block import Block

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")


def accelerate(
    model: Any,
    *,
    device: str | None = None,
    bf16: bool | None = None,
    compile: bool | str | None = None,
    fused: bool | None = None,
    sdpa: bool | None = None,
    tf32: bool | None = None,
    pinned: bool | None = None,
    checkpointing: bool = False,
    threads: int | None = None,
    memory: bool | None = None,
    say: Callable[[str], object] | None = print,
) -> "Accelerated":
    """Move a model with `loss(batch)` to `device` and choose the means for it; say once which, and why.

    `bf16`: products in bfloat16, weights and sums in float32. `compile`: True or a mode of torch.compile (default,
    reduce-overhead, max-autotune). `fused`: AdamW as one kernel. `sdpa`: attention as one kernel. `tf32`: float32
    products by a GPU's faster, coarser units. `pinned`: batches are carried to the GPU while it computes.
    `checkpointing`: less memory for a third more operations. `threads` is torch's, for the whole process, as is `tf32`.
    `memory`: what is freed on a CPU is kept for the next tensor, from then on and for the whole process.
    What was asked for with True and cannot be here is left out, and said too.

    >>> from minillm.transformer.decoder import Decoder, gpt2
    >>> model = Decoder(gpt2(vocabulary=9, context=4, n_layer=1, n_head=2, d_model=4))
    >>> fast = accelerate(model, device="cpu", bf16=False, compile=False, fused=False, say=None)
    >>> batch = torch.tensor([[1, 2, 3, 4, 5]])
    >>> bool(fast.loss(batch) == model.loss(batch)), fast.choices["bf16"].value
    (True, 'float32')
    """
    where = pick_device() if device is None else Choice(value=device, why="as you asked")
    if where.value not in ("cpu", "cuda"):
        raise ValueError(f"device={device!r} is not known; use 'cpu', 'cuda' or None, which looks for a GPU")
    if isinstance(compile, str) and compile not in COMPILE_MODES:
        raise ValueError(f"compile={compile!r} must be True, False, None or one of {', '.join(COMPILE_MODES)}")
    on_gpu = where.value == "cuda"
    choices = {
        "device": where,
        "bf16": _format(where.value, bf16),
        "compile": _compile(where.value, compile),
        "fused": _switch(fused, "one kernel moves all parameters", "yes"),
        "sdpa": _switch(sdpa, "one kernel, which never holds the weights", "yes" if hasattr(model, "fused") else "no"),
        "tf32": _tf32(on_gpu, tf32),
        "pinned": _switch(pinned, "the GPU computes meanwhile", "yes") if on_gpu else _no("for a GPU only"),
        "checkpointing": _switch(checkpointing, "blocks are computed again on the way back", "no"),
        "threads": choose_threads(threads),
        "memory": _no("torch keeps a GPU's memory itself") if on_gpu else choose_memory(memory),
    }
    torch.set_num_threads(int(choices["threads"].value))
    if choices["memory"].value == "yes" and not keep_freed_memory():
        choices["memory"] = _no("the allocator refused")
    if on_gpu:
        torch.set_float32_matmul_precision("high" if choices["tf32"].value == "yes" else "highest")
    if hasattr(model, "fused"):
        model.fused = choices["sdpa"].value == "yes"
    _checkpoint_blocks(model, choices["checkpointing"].value == "yes")
    fast = Accelerated(model.to(where.value), choices, say)
    if say is not None:
        say(str(fast))
    return fast


class Accelerated:
    """A model that `train` and `evaluate` take in the place of the one inside, `.model`, whose parameters it shares."""

    def __init__(self, model: Any, choices: dict[str, Choice], say: Callable[[str], object] | None) -> None:
        self.model, self.choices, self._say = model, choices, say
        self.device = choices["device"].value
        mode = choices["compile"].value
        self._compiled = None if mode == "no" else torch.compile(model.loss, mode=mode)
        self._works = False  # the compiled loss has run once

    def __str__(self) -> str:
        return "\n".join(f"{name:14}{choice}" for name, choice in self.choices.items())

    def loss(self, batch: Any) -> Tensor:
        """The model's loss by the chosen means."""
        half = self.choices["bf16"].value == "bfloat16"
        with torch.autocast(self.device, torch.bfloat16, enabled=half):
            if self._compiled is None:
                return self.model.loss(batch)
            self._look_at(batch)
            if self._works:
                return self._compiled(batch)
            try:
                loss = self._compiled(batch)
            except Exception as error:  # whatever is wrong with the compiler; a wrong batch fails again below
                self._give_up(error)
                return self.model.loss(batch)
            self._works = True
            return loss

    def _give_up(self, error: Exception) -> None:
        reason = (str(error).splitlines() or [""])[0][:200]
        self._compiled = None
        self.choices["compile"] = _no(f"it failed, and the run goes on without: {type(error).__name__}: {reason}")
        if self._say is not None:
            self._say(f"{'compile':14}{self.choices['compile']}")

    def count(self, batch: Any) -> float:
        """As the model's, or 1 for every batch."""
        return self.model.count(batch) if hasattr(self.model, "count") else 1.0

    def modules(self) -> Iterator[nn.Module]:
        """Those of the model."""
        return self.model.modules()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Those of the model."""
        return self.model.named_parameters()

    def adamw(self, learning_rate: float = 1e-3, betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8,
              weight_decay: float = 0.1) -> Any:  # fmt: skip
        """AdamW for the model, matrices decayed and vectors not: torch's fused kernel, or the course's own."""
        groups = decay_matrices_only(self.model, weight_decay)
        if self.choices["fused"].value == "yes":
            return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=eps, fused=True)
        return AdamW(groups, learning_rate, betas, eps, weight_decay)

    def batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches on the device, checked before they go there; when pinned, always one ahead of the one in use."""
        if self.device == "cpu":
            yield from batches
        else:
            checked = (self._look_at(batch) for batch in batches)
            yield from one_ahead(checked, self.device, pinned=self.choices["pinned"].value == "yes")

    def _look_at(self, batch: Any) -> Any:
        """The batch, its tokens checked while that makes no GPU wait: compiled code does not look."""
        vocabulary = getattr(self.model, "vocabulary", None)
        if vocabulary is not None and isinstance(batch, Tensor) and batch.device.type == "cpu":
            check_tokens(batch, vocabulary, columns=2)
        return batch


def one_ahead(batches: Iterable[Any], device: str, *, pinned: bool) -> Iterator[Any]:
    """Carry batches to `device`, the next one already on its way while one is used. Pinned memory lets it fly.

    >>> [int(x) for x in one_ahead([torch.tensor(1), torch.tensor(2)], "cpu", pinned=False)]
    [1, 2]
    """
    waiting: list[Any] = []
    for batch in batches:
        waiting.append(carry(batch, device, pinned=pinned))
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


def carry(batch: Any, device: str, *, pinned: bool = False) -> Any:
    """A batch on `device`: a tensor, or tuples, lists and dicts of tensors; anything else stays as it is.

    >>> carry({"x": [torch.ones(1)], "name": "one"}, "cpu")
    {'x': [tensor([1.])], 'name': 'one'}
    """
    if isinstance(batch, Tensor):
        return (batch.pin_memory() if pinned else batch).to(device, non_blocking=pinned)
    if isinstance(batch, dict):
        return {name: carry(part, device, pinned=pinned) for name, part in batch.items()}
    if type(batch) in (tuple, list):
        return type(batch)(carry(part, device, pinned=pinned) for part in batch)
    return batch.to(device) if hasattr(batch, "to") else batch


def _checkpoint_blocks(model: nn.Module, wanted: bool) -> None:
    """Let every block forget what it computed, or remember it again. Names of parameters stay as they are."""
    for module in model.modules():
        if isinstance(module, Block):
            module.__dict__.pop("forward", None)
            if wanted:
                module.forward = partial(_forget_and_repeat, module)


def _forget_and_repeat(block: Block, *arguments: Any, cache: Any = None, **rest: Any) -> Tensor:
    if cache is not None or not torch.is_grad_enabled():  # a cache must be written once
        return Block.forward(block, *arguments, cache=cache, **rest)
    return checkpoint(partial(Block.forward, block), *arguments, use_reentrant=False, **rest)


def _switch(wanted: bool | None, why: str, otherwise: str) -> Choice:
    if wanted is None:
        return Choice(value=otherwise, why=why) if otherwise == "yes" else _no("this model has no such switch")
    return Choice(value="yes", why=why) if wanted else _no("as you asked")


def _no(why: str) -> Choice:
    return Choice(value="no", why=why)


def _format(device: str, wanted: bool | None) -> Choice:
    if wanted is False:
        return Choice(value="float32", why="as you asked")
    return pick_dtype(device, fastest=True)  # also with True: what the processor cannot do is never faster


def _compile(device: str, wanted: bool | str | None) -> Choice:
    if wanted is False:
        return _no("as you asked")
    can = choose_compile(device)
    if can.value == "no":
        return can
    if wanted is None and device == "cpu":
        return _no("on a CPU compiling takes longer than a short run gains; compile=True does it")
    return Choice(value=wanted if isinstance(wanted, str) else "default", why=can.why)


def _tf32(on_gpu: bool, wanted: bool | None) -> Choice:
    if not on_gpu:
        return _no("for a GPU only")
    if wanted is False:
        return _no("as you asked")
    if torch.cuda.get_device_capability(0)[0] < 8:
        return _no("this GPU has no such units; those of 2020 and later do")
    return Choice(value="yes", why="the few products that stay in float32 take 10 bits of precision")
