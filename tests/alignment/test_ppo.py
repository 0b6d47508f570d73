"""PPO against what is known exactly: every check of `tests/ppo_checks.py`, on our own class."""

import pytest
from ppo_checks import CHECKS

from minillm.alignment.ppo import PPO

pytestmark = pytest.mark.no_promises  # most time goes into loops; test_ppo_on_a_decoder keeps the promises


@pytest.mark.parametrize("name", CHECKS)
def test_ppo(name):
    CHECKS[name](PPO)
