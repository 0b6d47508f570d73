"""The list of what must be true of a PPO: functions of its class, by name."""

import torch

from minillm.alignment.ppo import PPO

CHECKS = {}


def check(function):
    """Put a function on the list, under its name."""
    CHECKS[function.__name__] = function
    return function


def parameters_of(ppo):
    return [p.detach().clone() for model in (ppo.policy, ppo.critic) for p in model.parameters()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def run_all(kind=PPO):
    """The names of the checks that a class fails, and with what."""
    failed = {}
    for name, function in CHECKS.items():
        try:
            function(kind)
        except AssertionError as error:
            failed[name] = error
    return failed
