"""The mark of tests that need an NVIDIA GPU, and the reason for which they are skipped without one."""

import pytest
import torch


def cuda(test):
    """Mark a test `cuda`, and skip it where no GPU answers."""
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and none answers here")
    return pytest.mark.cuda(skip(test))
