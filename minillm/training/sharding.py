"""One model over several processes: each reads other rows, or holds other parts of the parameters, or both.

    ddp      every process holds the model and reads its own rows; the gradients are averaged
    fsdp     the same, but each holds 1/n of every parameter, gradient and memory of the optimiser; those of a
             block are put together when its turn comes, and dropped again (ZeRO-3)
    tensor   all read the same rows; each holds some heads and some of the MLP's hidden numbers, and what they add
             to the stream is summed:   MLP(x) = Σ_i down_i(act(up_i(x))),   up's columns and down's rows split

All three compute what one process computes, up to the order of sums. The work is done by torch: `fully_shard`, DTensor
and DistributedDataParallel. What is written here is which part goes where, and the way back to whole tensors, so that a
checkpoint of any number of processes, spread in any way, is a checkpoint of one.

Paper:   DDP: Li et al. 2020, arXiv:2006.15704; FSDP: Zhao et al. 2023, arXiv:2304.11277, and ZeRO: Rajbhandari et al.
         2020, arXiv:1910.02054; tensor parallel: Shoeybi et al. 2019, "Megatron-LM", §3, arXiv:1909.08053.
Differs: in a tensor-parallel model the norms run in every process; Megatron's later sequence parallelism splits them.
Next:    minillm/training/pipeline.py
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, distribute_module, distribute_tensor
from torch.nn.utils import get_total_norm

from minillm.attention.positions import LearnedPositions
from minillm.training.distributed import Process
from minillm.training.state_tree import map_tensors
from minillm.transformer.block import Block
from minillm.transformer.decoder import Decoder, DecoderConfig

Way = Literal["ddp", "fsdp", "tensor"]


class Spread:
    """A model over the processes of a group: `train`, `evaluate` and `Checkpoints` take it in the place of the model.

    `model` is a Decoder, or one that was accelerated. With way="fsdp" `tensor` may be above 1: groups of that many
    processes then share a tensor-parallel model. `part` of `parts` says which rows this process reads, as in
    `TokenBatches(…, part=spread.part, parts=spread.parts)`. Make the optimiser afterwards, from `parameters()`.
    """

    def __init__(self, model: Any, process: Process, way: Way = "ddp", *, tensor: int = 1) -> None:
        if way not in Way.__args__:
            raise ValueError(f"way={way!r} must be one of {', '.join(Way.__args__)}; pipelines are Pipelined's")
        tensor = process.size if way == "tensor" else tensor
        if tensor < 1 or process.size % tensor or (way == "ddp" and tensor > 1):
            raise ValueError(f"tensor={tensor} must divide the {process.size} processes, and goes with way='fsdp' or "
                             f"'tensor', not with way={way!r}; tensor=1 works")  # fmt: skip
        self.module: Decoder = getattr(model, "model", model).to(process.device)  # inside what `accelerate` gives
        if tensor > 1:
            _check_tensor_parallel(self.module.config, tensor)
        self.process, self._loss = process, model.loss
        self.parts, self.part = process.size // tensor, process.rank // tensor
        mesh = init_device_mesh(process.device.type, (self.parts, tensor), mesh_dim_names=("data", "tensor"))
        if tensor > 1:
            split_tensors(self.module, mesh["tensor"])
        if way == "fsdp":
            _shard(self.module, mesh["data"])
        elif way == "ddp":
            ids = [process.device.index] if process.device.type == "cuda" else None
            self._loss = nn.parallel.DistributedDataParallel(_Loss(self.module, model.loss), device_ids=ids)
        self._rows = mesh["data"].get_group()

    def loss(self, batch: Any) -> Tensor:
        """The mean over the rows of all processes; its slope is that of our rows, and torch averages the slopes."""
        loss = self._loss(batch)
        mean = loss.detach().clone()
        dist.all_reduce(mean, group=self._rows)
        return loss + (mean / self.parts - loss.detach())

    def count(self, batch: Any) -> float:
        """As the model's."""
        return float(self.module.count(batch))

    def gradient_norm(self, gradients: Iterable[Tensor]) -> Tensor:
        """The norm of the whole gradient, wherever its parts are."""
        return _full(get_total_norm(gradients))

    def modules(self) -> Iterator[nn.Module]:
        """Those of the model."""
        return self.module.modules()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Those of the model: of each, the part that this process holds."""
        return self.module.named_parameters()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The same without names."""
        return self.module.parameters()

    def state_dict(self) -> dict[str, Tensor]:
        """The whole parameters, on the CPU, as those of a model in one process. All processes must ask together."""
        return whole(self.module.state_dict())

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Take each process's share of whole parameters."""
        ours = self.module.state_dict()
        if wrong := sorted(name for name in {*ours, *saved} if _shape(ours.get(name)) != _shape(saved.get(name))):
            name = wrong[0]
            raise ValueError(f"the saved model has {name} of shape {_shape(saved.get(name))}, this one of shape "
                             f"{_shape(ours.get(name))}; give the configuration that it was saved with")  # fmt: skip
        for name, tensor in ours.items():
            tensor.copy_(share(saved[name], tensor))

    def optimizer(self, optimizer: Any) -> "WholeState":
        """The optimiser as a part of a checkpoint: its memory is saved whole, and each process takes its share back."""
        return WholeState(optimizer)


class WholeState:
    """An optimiser whose saved state is that of one process: the memory of every parameter in one piece."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """All of it, on the CPU. All processes must ask together."""
        return whole(self._optimizer.state_dict())

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take each process's share."""
        memory = saved["state"]
        shares = {
            place: {name: share(v, self._parameters[place]) if isinstance(v, Tensor) else v for name, v in of.items()}
            for place, of in (memory.items() if isinstance(memory, Mapping) else enumerate(memory))
        }
        state = shares if isinstance(memory, Mapping) else list(shares.values())
        self._optimizer.load_state_dict({**saved, "state": state})


def whole(state: Any) -> Any:
    """A nested state in which every tensor is in one piece, on the CPU. All processes must call it together."""
    return map_tensors(state, lambda tensor: _full(tensor).detach().cpu())


def share(tensor: Tensor, like: Tensor) -> Tensor:
    """What a process holds of a whole tensor when it holds `like` of its parameter; the tensor itself where it is no
    such part (a counter, say). Nothing is sent: every process has read the whole."""
    tensor = tensor.to(like.device)
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def split_tensors(model: Decoder, mesh: DeviceMesh) -> None:
    """Give each process of `mesh` its heads, its hidden numbers and its part of the vocabulary, in place."""
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    tied = model.score.weight is model.embedding.weight
    plan: dict[str, Any] = {
        "embedding": RowwiseParallel(input_layouts=Replicate()),
        "score": ColwiseParallel(output_layouts=Replicate()),
    }
    for name, _ in model.named_modules():
        last = name.rpartition(".")[2]
        if ".attention." in name or ".mlp." in name:
            plan[name] = RowwiseParallel() if last in ("out", "down") else ColwiseParallel()
    parallelize_module(model, mesh, plan)
    if tied:
        model.score.weight = model.embedding.weight
    if isinstance(model.positions, LearnedPositions):
        distribute_module(model.positions, mesh)
        rows = model.positions.rows  # a method, to which no hook of a module listens
        model.positions.rows = lambda positions: _own(None, rows(*_in_all(None, (positions,), mesh)), mesh)
    for module in model.modules():  # the rest, norms and positions: the same in every process
        if any(not isinstance(parameter, DTensor) for parameter in module.parameters(recurse=False)):
            distribute_module(module, mesh, input_fn=_in_all, output_fn=_own)  # pyright: ignore[reportArgumentType]


def _check_tensor_parallel(config: DecoderConfig, n: int) -> None:
    attention = config.block.attention
    for name, value in (
        ("n_head", config.n_head),
        ("n_kv_head", attention.kv_heads),
        ("d_hidden", config.block.d_hidden),
    ):
        if value % n:
            raise ValueError(f"{name}={value} cannot be split over {n} processes; {name}={n * -(-value // n)} can")
    wrong = [f"{name}={value!r}" for name in ("qk_norm", "smear", "moe") if (value := getattr(config, name))]
    wrong += ["positions='alibi'"] if config.positions == "alibi" else []
    if wrong:
        raise ValueError(f"{wrong[0]} is not known to the tensor-parallel way; 'fsdp' takes every model")


def _shard(model: Decoder, mesh: DeviceMesh) -> None:
    from torch.distributed.fsdp import fully_shard

    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)  # what is in no block: embeddings, the last norm, the scores


class _Loss(nn.Module):
    """The loss as the forward of a module, which is what DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module, loss: Any) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, batch: Any) -> Tensor:
        return self._loss(batch)


def _in_all(module: nn.Module | None, inputs: tuple[Any, ...], mesh: DeviceMesh) -> tuple[Any, ...]:
    return tuple(DTensor.from_local(x, mesh, [Replicate()], run_check=False) for x in inputs)


def _own(module: nn.Module | None, output: Any, mesh: DeviceMesh) -> Any:
    return output.to_local()


def _full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)
