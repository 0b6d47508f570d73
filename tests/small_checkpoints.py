"""What the tests of published checkpoints share: models far from their start, and files with something changed."""

import torch

from minillm.core.tensor_files import WHOLE, StoredTensors, write_tensors


def shake(model):
    """Move all weights, biases and norms too, so that no wrong map or lost tensor can hide; from torch's own seed."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def rewrite(folder, change):
    """Read the tensors of a folder with one file, let `change` change the dict of them, and write it back."""
    stored = StoredTensors(folder)
    tensors = {name: stored.read(name) for name in stored.names}
    change(tensors)
    write_tensors(folder / WHOLE, tensors)
