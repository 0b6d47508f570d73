"""A small run that can be killed at any moment, for the tests of checkpoints: each life is a forked process."""

import os
from pathlib import Path

import torch
from torch import nn

from minillm.neural.batches import random_chunks
from minillm.text.token_shards import ShuffledWindows, TokenShards
from minillm.training.checkpoint import Checkpoints
from minillm.training.loop import train
from minillm.training.optim import AdamW, linear_warmup_cosine
from minillm.training.token_batches import TokenBatches

VOCABULARY, STEPS = 17, 220


class Noisy(nn.Module):
    """Dropout draws from the global generator, the noise on the embeddings from one of its own."""

    def __init__(self, noise):
        super().__init__()
        self.noise = noise
        self.embedding, self.score = nn.Embedding(VOCABULARY, 12), nn.Linear(12, VOCABULARY)
        self.drop = nn.Dropout(0.3)
        generator = torch.Generator().manual_seed(5)
        for parameter in self.parameters():
            parameter.data.normal_(generator=generator)

    def loss(self, batch):
        x = self.embedding(batch[:, :-1])
        x = self.drop(x + 0.1 * torch.randn(x.shape, generator=self.noise))
        return nn.functional.cross_entropy(self.score(x).flatten(0, 1), batch[:, 1:].flatten())


class Both:
    """Two sources of batches in turn: one has a place, the other the state of its generator."""

    def __init__(self, windows, draws):
        self.windows, self.more = windows, random_chunks(torch.arange(60) % VOCABULARY, 3, 5, draws)

    def __iter__(self):
        while True:
            yield next(self.windows)
            yield next(self.more)


def run(folder, steps=STEPS, *, resume=True, every=1):
    """Train to the end, or until killed; each step's exact loss is a line of `losses`, the parameters' end a file."""
    folder = Path(folder)
    os.fsync = lambda handle: None  # against a loss of power; a killed process loses nothing that it has written
    torch.manual_seed(0)
    noise, draws = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    model = Noisy(noise)
    windows = TokenBatches(ShuffledWindows(TokenShards(folder.parent / "shards", verify=False), b=4, t=6, seed=3))
    optimizer = AdamW(model.parameters(), 0.02)
    parts = {"model": model, "optimizer": optimizer, "windows": windows, "noise": noise, "draws": draws}
    checkpoints = Checkpoints(folder / "checkpoints", parts, every=every)
    start = checkpoints.resume() if resume else 0
    log = os.open(folder / "losses", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    write = lambda row: os.write(log, f"{row.step} {row.loss.hex()} {row.gradient_norm.hex()}\n".encode()) and None
    schedule = lambda step: linear_warmup_cosine(step, steps=STEPS, warmup=9)
    options = {"accumulate": 2, "clip": 1.0, "schedule": schedule, "start": start}
    train(model, Both(windows, draws), steps=steps, optimizer=optimizer, callbacks=[write, checkpoints], **options)
    end = torch.cat([p.detach().flatten() for p in model.parameters()]).numpy().tobytes()
    (folder / "end").write_bytes(end)
