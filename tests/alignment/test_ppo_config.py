"""PPOConfig says what is wrong, and what would work."""

import pytest

from minillm.alignment.ppo import PPOConfig

GOOD = {"beta": 0.1, "learning_rate": 1e-3, "rollout": 8, "max_new_tokens": 4, "updates": 3, "eos": 0}


def test_the_defaults_are_those_of_the_literature():
    config = PPOConfig(**GOOD)
    assert (config.gamma, config.lam, config.clip, config.temperature, config.adam_eps) == (1.0, 0.95, 0.2, 1.0, 1e-5)
    assert config.kl_target is None and config.score_clip is None and not config.whiten_rewards


def test_a_list_of_allowed_tokens_becomes_a_tuple():
    assert PPOConfig(**GOOD, allowed_tokens=[0, 2]).allowed_tokens == (0, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"beta": -0.1},
        {"beta": float("nan")},
        {"learning_rate": 0.0},
        {"rollout": 0},
        {"updates": 2.5},
        {"temperature": 0.0},
        {"clip": 0.0},
        {"value_clip": -1.0},
        {"kl_stop": 0.0},
        {"gamma": 1.1},
        {"lam": -0.1},
        {"truncation_penalty": -1.0},
        {"minibatches": 9},
        {"allowed_tokens": (1, 2)},
        {"beta": 0.0, "kl_target": 1.0},
    ],
    ids=str,
)
def test_what_cannot_be_is_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=") as error:
        PPOConfig(**(GOOD | wrong))
    assert "works" in str(error.value)
