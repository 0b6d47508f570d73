"""Pipeline parallel: each process holds some of the blocks, and micro-batches pass through them one behind the other.

    time →     1   2   3   4   5   6        of a step with m = 3 micro-batches and n = 2 stages (forward only)
    stage 0    a   b   c   ·   ·   ·
    stage 1    ·   a   b   c   ·   ·        idle: (n - 1) / (m + n - 1) of the time, the "bubble"

The stream of activations is all that is sent. The way back goes from the last stage to the first, and "1f1b" mixes both
so that few micro-batches are held at once. The gradient is the mean over the micro-batches, as of one large
batch. Where the scores use the table of embeddings, the first and the last stage hold it, and their slopes are added.

Paper:   Huang et al. 2019, "GPipe", §2.3, arXiv:1811.06965; 1F1B: Narayanan et al. 2019, "PipeDream", §3.2,
         arXiv:1806.03377.
Differs: the schedules are torch's; one step is one flush, so no weights are stale, as in GPipe. Saving sends the parts
         to all processes as Python objects; nothing is ever read so from a file.
Next:    minillm/training/pretrain.py
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.utils import get_total_norm

from minillm.neural.language_model import mean_nats
from minillm.training.distributed import Process
from minillm.training.state_tree import map_tensors
from minillm.transformer.decoder import Decoder

SCHEDULES = ("1f1b", "gpipe")


class Pipelined:
    """A Decoder whose blocks are shared out over the processes; `train` and `Checkpoints` take it like a `Spread`.

    Every process gives `loss` the same batch, whose rows are cut into `micro_batches` equal parts. The optimiser is
    made afterwards, from `parameters()` or `decay_matrices_only(pipelined)`.
    """

    part, parts = 0, 1  # all processes read the same rows

    def __init__(self, model: Any, process: Process, micro_batches: int = 4, schedule: str = "1f1b") -> None:
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

        bf16 = hasattr(model, "choices") and model.choices["bf16"].value == "bfloat16"  # of what `accelerate` gives
        model = getattr(model, "model", model)
        _check(model, process.size, micro_batches, schedule)
        self.process, self.micro_batches = process, micro_batches
        self._names = [name for name, _ in model.named_parameters()]
        self._shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        self.stage = Stage(model, process.rank, process.size, bf16=bf16).to(process.device)
        self.module = self.stage.model
        self._stage = PipelineStage(self.stage, process.rank, process.size, process.device)
        kind = Schedule1F1B if schedule == "1f1b" else ScheduleGPipe
        self._schedule = kind(self._stage, micro_batches, loss_fn=self.stage.nats)
        ends = [0, process.size - 1]
        self._ends = dist.new_group(ends) if model.config.tied and process.size > 1 else None
        self._tied: Tensor | None = None
        if self._ends is not None and process.rank in ends:
            self._tied = (self.module.embedding if self.stage.first else self.module.score).weight

    def loss(self, batch: Tensor) -> Tensor:
        """The mean over the batch. In training both ways are taken at once; `backward` only hands the slopes over."""
        b, m = len(batch), self.micro_batches
        if b % m:
            raise ValueError(
                f"a batch of {b} rows does not fall into micro_batches={m} equal parts; {m * -(-b // m)} do"
            )
        parameters = list(self.module.parameters())
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        mean = self._run(batch)
        slopes = [parameter.grad for parameter in parameters]
        for parameter, grad in zip(parameters, before, strict=True):
            parameter.grad = grad
        if not torch.is_grad_enabled():
            return mean
        return _HandOver.apply(mean.requires_grad_(), parameters, slopes)  # pyright: ignore[reportReturnType]

    def _run(self, batch: Tensor) -> Tensor:
        """All micro-batches forth and, in training, back: the mean loss, which all processes get."""
        losses: list[Tensor] = []
        run = self._schedule.step if torch.is_grad_enabled() else self._schedule.eval
        inputs = (batch[:, :-1],) if self.stage.first else ()
        run(*inputs, target=batch[:, 1:] if self.stage.last else None, losses=losses)
        if self._tied is not None and self._tied.grad is not None:
            dist.all_reduce(self._tied.grad, group=self._ends)
        mean = torch.stack(losses).mean().detach() if losses else torch.zeros((), device=self.process.device)
        mean = mean.to(next(self.module.parameters()).dtype)
        dist.broadcast(mean, src=self.process.size - 1)
        return mean

    def count(self, batch: Any) -> float:
        """As the model's."""
        return float(self.module.count(batch))

    def gradient_norm(self, gradients: Iterable[Tensor]) -> Tensor:
        """The norm of the whole gradient: squares add up over the stages, what is tied counts once."""
        doubled = None if self._tied is None or self.stage.first else self._tied.grad
        ours = [gradient for gradient in gradients if gradient is not doubled]
        square = get_total_norm(ours).square().to(self.process.device)
        dist.all_reduce(square)
        return square.sqrt()

    def modules(self) -> Iterator[nn.Module]:
        """Those of this stage."""
        return self.module.modules()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Those of this stage, by the names that they have in the whole model."""
        return self.module.named_parameters()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The same without names."""
        return self.module.parameters()

    def state_dict(self) -> dict[str, Tensor]:
        """The parameters of all stages, on the CPU. All processes must ask together."""
        found = {name: tensor for part in _of_all(_on_cpu(self.module.state_dict())) for name, tensor in part.items()}
        if self._ends is not None:  # the first stage has the one name, the last the other
            found["embedding.weight"] = found["score.weight"]
        return {name: found[name] for name in self._shapes}

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Take this stage's parameters from those of a whole model."""
        shapes = {name: tensor.shape for name, tensor in saved.items()}
        if wrong := sorted(name for name in {*shapes, *self._shapes} if shapes.get(name) != self._shapes.get(name)):
            name = wrong[0]
            raise ValueError(f"the saved model has {name} of shape {shapes.get(name)}, this one of shape "
                             f"{self._shapes.get(name)}; give the configuration that it was saved with")  # fmt: skip
        for name, tensor in self.module.state_dict().items():
            tensor.copy_(saved[name])

    def optimizer(self, optimizer: Any) -> "StagesState":
        """The optimiser as a part of a checkpoint, which is that of one process."""
        return StagesState(optimizer, self)


class StagesState:
    """An optimiser of which each stage has a part; what is saved is all of it, in the order of the whole model."""

    def __init__(self, optimizer: Any, pipelined: Pipelined) -> None:
        self._optimizer, self._pipelined = optimizer, pipelined
        names = {parameter: name for name, parameter in pipelined.named_parameters()}
        self._groups = [[_first_name(names[p], pipelined) for p in group["params"]] for group in optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All of it, on the CPU. All processes must ask together."""
        ours = _on_cpu(self._optimizer.state_dict())
        keyed = isinstance(ours["state"], Mapping)
        memory = {name: ours["state"].get(i, {}) if keyed else ours["state"][i] for i, name in enumerate(self._flat())}
        memory = {name: part for of in _of_all(memory) for name, part in of.items()}
        places, state = 0, []
        for group, options in zip(self._whole(), ours["param_groups"], strict=True):
            state += [memory[name] for name in group]
            if "params" in options:  # torch's own number their parameters
                options["params"] = list(range(places, places + len(group)))
            places += len(group)
        return ours | {"state": dict(enumerate(state)) if keyed else state}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take this stage's part."""
        order = [name for group in self._whole() for name in group]
        place = {name: i for i, name in enumerate(order)}
        state = [saved["state"][place[name]] for name in self._flat()]
        groups, begin = [dict(group) for group in saved["param_groups"]], 0
        for group, names in zip(groups, self._groups, strict=True):
            if "params" in group:
                group["params"] = list(range(begin, begin + len(names)))
            begin += len(names)
        keyed = isinstance(saved["state"], Mapping)
        self._optimizer.load_state_dict({"state": dict(enumerate(state)) if keyed else state, "param_groups": groups})

    def _flat(self) -> list[str]:
        return [name for group in self._groups for name in group]

    def _whole(self) -> list[list[str]]:
        """The names of each group over all stages, in the order of the whole model."""
        order = {name: i for i, name in enumerate(self._pipelined._names)}
        together = zip(*_of_all(self._groups), strict=True)
        return [sorted({name for part in parts for name in part}, key=order.__getitem__) for parts in together]


class Stage(nn.Module):
    """Some consecutive blocks of a decoder: tokens or a stream (b, t, d) in, a stream or logits (b, t, v) out.

    Parameters keep the names that they have in the whole model; what belongs to other stages is not held.

    >>> from minillm.transformer.decoder import llama
    >>> model = Decoder(llama(vocabulary=9, context=4, n_layer=3, n_head=2, d_model=4))
    >>> first, last = Stage(model, 0, 2), Stage(model, 1, 2)
    >>> tokens_bt = torch.tensor([[1, 2, 3]])
    >>> bool((last(first(tokens_bt)) == model(tokens_bt)).all()), list(last.blocks)
    (True, [2])
    """

    def __init__(self, model: Decoder, index: int, stages: int, *, bf16: bool = False) -> None:
        super().__init__()
        self.first, self.last, self.bf16 = index == 0, index == stages - 1, bf16
        n = model.config.n_layer
        self.blocks = range(-(-n * index // stages), -(-n * (index + 1) // stages))
        self.model = copy.copy(model)
        self.model._modules, self.model._parameters = dict(model._modules), dict(model._parameters)
        self.model.blocks = nn.ModuleList(model.blocks[i] if i in self.blocks else nn.Identity() for i in range(n))
        if not self.first:  # the stream that comes in has its positions already
            self.model.embedding, self.model.positions, self.model.dropout = None, None, nn.Identity()  # pyright: ignore
            self.model.smear = None
            if model.config.positions in ("learned", "sinusoidal"):
                self.model.config = replace(model.config, positions="none")
        if not self.last:
            self.model.norm, self.model.score = None, None  # pyright: ignore

    def forward(self, x: Tensor) -> Tensor:
        model = self.model
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            x_btd, how = model._start(model.embedding(x) if self.first else x)
            for i in self.blocks:
                x_btd = model.blocks[i](x_btd, **how, fused=model.fused)
            return model.score(model.norm(x_btd)) if self.last else x_btd

    def nats(self, logits_btv: Tensor, target_bt: Tensor) -> Tensor:
        """The loss of a micro-batch, from what the last stage gives."""
        with torch.autocast(logits_btv.device.type, torch.bfloat16, enabled=self.bf16):
            return mean_nats(logits_btv, target_bt)


class _HandOver(torch.autograd.Function):
    """A loss whose way back was taken already: `backward` adds the slopes that were found, times what it is given."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, parameters: list[nn.Parameter], slopes: list[Tensor | None]) -> Tensor:
        ctx.parameters, ctx.slopes = parameters, slopes
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[None, None, None]:
        for parameter, slope in zip(ctx.parameters, ctx.slopes, strict=True):
            if slope is not None:
                slope = slope * outputs[0]
                parameter.grad = slope if parameter.grad is None else parameter.grad + slope
        return None, None, None


def _first_name(name: str, pipelined: Pipelined) -> str:
    """The name under which a parameter comes first: tied scores are the embeddings."""
    return name if name in pipelined._names else "embedding.weight"


def _of_all(ours: Any) -> list[Any]:
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, ours)
    return found


def _on_cpu(state: Any) -> Any:
    return map_tensors(state, lambda tensor: tensor.detach().cpu())


def _check(model: Any, stages: int, micro_batches: int, schedule: str) -> None:
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule={schedule!r} must be one of {', '.join(SCHEDULES)}")
    if not isinstance(model, Decoder) or model.config.moe is not None:
        raise ValueError("a pipeline takes a Decoder without mixtures of experts; 'fsdp' takes every model")
    if stages > (n := model.config.n_layer):
        raise ValueError(f"n_layer={n} blocks cannot be shared out over {stages} processes, each of which needs one; "
                         f"start at most {n}")  # fmt: skip
    if micro_batches < stages:
        raise ValueError(f"micro_batches={micro_batches} must be at least the {stages} stages, or some never work; "
                         f"micro_batches={4 * stages} leaves them idle for a fifth of the time")  # fmt: skip
