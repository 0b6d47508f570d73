"""A small model and its data, for the tests of the training loop."""

import torch
from torch import nn

ITEMS, INPUTS, OUTPUTS = 12, 5, 3


class Regression(nn.Module):
    """A small network whose batch is (inputs, targets, which items count)."""

    def __init__(self, dropout=0.0, seed=0):
        super().__init__()
        self.first, self.second = nn.Linear(INPUTS, 7), nn.Linear(7, OUTPUTS)
        self.drop = nn.Dropout(dropout)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 3

    def loss(self, batch):
        x, y, counts = batch
        error = (self.second(self.drop(torch.tanh(self.first(x)))) - y).square().sum(1)
        return error[counts].mean()


class Counted(Regression):
    def count(self, batch):
        return int(batch[2].sum())


def data(seed=1, items=ITEMS):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(items, INPUTS, generator=generator, dtype=torch.float64)
    y = torch.randn(items, OUTPUTS, generator=generator, dtype=torch.float64)
    return x, y, torch.rand(items, generator=generator) < 0.7


def cut(batch, *sizes):
    return list(zip(*(part.split(sizes) for part in batch), strict=True))


def draws(seed, items=4):
    """Batches without an end, from a generator of their own."""
    x, y, counts = data()
    generator = torch.Generator().manual_seed(seed)
    while True:
        chosen = torch.randint(ITEMS, (items,), generator=generator)
        yield x[chosen], y[chosen], counts[chosen] | True


def sgd(model, rate=0.1):
    return torch.optim.SGD(model.parameters(), lr=rate)


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])
