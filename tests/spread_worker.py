"""What the tests of several processes run in each of them: every way of spreading a model, from one checkpoint.

Run as `spread_worker.py FOLDER` it goes on from FOLDER/one in every way; as `spread_worker.py die` or `kill` its second
process ends in the middle of the run, while the first waits for it.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from minillm.training.checkpoint import Checkpoints
from minillm.training.distributed import process_group
from minillm.training.loop import train
from minillm.training.optim import AdamW, decay_matrices_only
from minillm.transformer.decoder import Decoder, DecoderConfig, gpt2, llama

B, T, START, STEPS = 4, 6, 5, 25
GPT2 = gpt2(vocabulary=23, context=T + 3, n_layer=3, n_head=4, d_model=20)
LLAMA = llama(vocabulary=22, context=T + 3, n_layer=3, n_head=4, n_kv_head=2, d_model=24, d_hidden=14, tied=True)
SMEAR = DecoderConfig(
    vocabulary=22,
    context=T,
    n_layer=2,
    n_head=2,
    d_model=12,
    positions="sinusoidal",
    smear=True,
    tied=False,
    bias=False,
)
WAYS = {  # name: model, way, size of the tensor-parallel groups
    "ddp": (GPT2, "ddp", 1),
    "fsdp": (LLAMA, "fsdp", 1),
    "tensor": (GPT2, "tensor", 1),
    "tensor-llama": (LLAMA, "tensor", 1),
    "fsdp and tensor": (GPT2, "fsdp", 2),
    "pipeline": (GPT2, "pipeline", 1),
    "pipeline-llama": (LLAMA, "pipeline", 1),
    "pipeline-smear": (SMEAR, "pipeline", 1),
}


class Rows:
    """Random batches, or the rows of them that are one process's; the place is the state of the generator."""

    def __init__(self, part=0, parts=1):
        self.generator, self.rows = torch.Generator().manual_seed(1), slice(part * B // parts, (part + 1) * B // parts)

    def __iter__(self):
        while True:
            yield torch.randint(22, (B, T + 1), generator=self.generator)[self.rows]


def go_on(folder, model, *, steps, part_of_checkpoint=lambda optimizer: optimizer, write=True, **rows):
    """Train to `steps` from the checkpoint in `folder`, and save the end: losses, and norms of the gradients."""
    optimizer, data = AdamW(decay_matrices_only(model), 0.01), Rows(**rows)
    parts = {"model": model, "optimizer": part_of_checkpoint(optimizer), "draws": data.generator}
    checkpoints = Checkpoints(folder, parts, every=1000, write=write)
    record = train(model, data, steps=steps, start=checkpoints.resume(), optimizer=optimizer, clip=0.3,
                   callbacks=[checkpoints])  # fmt: skip
    return [[row.loss for row in record], [row.gradient_norm for row in record]]


def every_way(folder):
    import shutil
    import warnings

    from minillm.training.pipeline import Pipelined
    from minillm.training.sharding import Spread

    warnings.filterwarnings("error")
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # nobody changes the logits in place
    found = {}
    with process_group(timeout_s=60) as ours:
        for name, (config, way, tensor) in WAYS.items():
            model = Decoder(config).double()
            if way == "pipeline":
                model = Pipelined(model, ours, micro_batches=2)
            else:
                model = Spread(model, ours, way, tensor=tensor)
            if ours.first:
                shutil.copytree(folder / f"one {config.positions}", folder / name)
            torch.distributed.barrier()
            found[name] = go_on(folder / name, model, steps=STEPS, part_of_checkpoint=model.optimizer,
                                write=ours.first, part=model.part, parts=model.parts)  # fmt: skip
        if ours.first:
            (folder / "found.json").write_text(json.dumps(found))


def end_in_the_middle(how):
    with process_group() as ours:
        for step in range(3):
            if step == 2 and ours.rank == 1:
                if how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise RuntimeError("planted in process 1")
            torch.distributed.all_reduce(torch.ones(1))
            ours.say(f"step {step}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    end_in_the_middle(sys.argv[1]) if sys.argv[1] in ("die", "kill") else every_way(Path(sys.argv[1]))
