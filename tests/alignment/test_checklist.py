"""The thirty rows: each is named in the code where it is done, and has a test."""

import re
from pathlib import Path

import pytest
from ppo_checks import CHECKS

HERE = Path(__file__).parent
ALIGNMENT = HERE.parents[1] / "minillm" / "alignment"

# row: what it is about, and the tests that hold it: a check of ppo_checks.py, or file::test
ROWS = {
    1: ("k1 in the reward, detached", ["price_of_a_response", "soft_bellman", "gradient"]),
    2: ("a frozen reference, read as the policy is", ["reference_is_frozen"]),
    3: ("the score at the last real token", ["score_at_the_last_token"]),
    4: ("scores normalised under the reference", ["test_laboratory::test_scores_are_scaled_under_the_reference"]),
    5: ("rewards scaled, not shifted", ["whitened_rewards", "test_ppo_optimum::test_the_optimum_stays_where_it_is"]),
    6: ("score clipping", ["truncation"]),
    7: ("a critic that starts at 0", ["new_critic"]),
    8: ("a critic with a trunk of its own", ["test_ppo_decoder::test_the_trunk_of_the_critic_is_that_of_the_model"]),
    9: ("value clipping", ["value_clipping"]),
    10: ("V before the token", ["values_before_tokens"]),
    11: ("GAE over the response alone", ["padding", "advantages_by_hand",
                                         "test_advantage::test_it_is_the_plain_sum_of_each_row"]),
    12: ("whitened advantages", ["whitened_advantages", "gradient_when_whitened"]),
    13: ("the clipped ratio", ["clipping"]),
    14: ("π_old is who wrote", ["behaviour_policy",
                               "test_ppo_decoder::test_before_the_first_step_of_every_update_the_ratio_is_1"]),
    15: ("one temperature", ["temperature", "samples_follow_the_policy"]),
    16: ("no top-p, no top-k", ["samples_follow_the_policy"]),
    17: ("the end is an action", ["price_of_a_response", "gradient"]),
    18: ("a price on being cut", ["truncation"]),
    19: ("every sample is kept", ["every_sample_is_kept"]),
    20: ("adaptive β, an option", ["adaptive_price"]),
    21: ("minibatches", ["every_sample_is_kept"]),
    22: ("a stop that stops", ["early_stop"]),
    23: ("Adam and its rate", ["adam", "learning_rate"]),
    24: ("no dropout", ["test_responses::test_dropout_is_off_and_the_mode_comes_back"]),
    25: ("prompts of any length", ["test_responses::test_prompts_of_any_length_are_continued_as_if_alone",
                                   "test_responses::test_a_batch_is_its_rows"]),
    26: ("no prompt is cut", ["test_responses::test_no_prompt_is_cut"]),
    27: ("each token weighs the same", ["token_mean", "test_ppo_decoder::test_minibatches_add_up_to_the_rollout"]),
    28: ("masks from lengths", ["test_responses::test_lengths_say_what_is_real_not_tokens"]),
    29: ("masked metrics", ["metrics"]),
    30: ("exact resume", ["exact_resume",
                           "test_ppo_decoder::test_a_run_goes_on_from_a_checkpoint_on_disk_to_the_last_bit"]),
}  # fmt: skip


def named_rows():
    """The rows that the library's files name, as "row 3", "rows 3 and 4", "rows 3, 4"."""
    found = set()
    for path in ALIGNMENT.glob("*.py"):
        for numbers in re.findall(r"[Rr]ows? (\d+(?:(?:, | and )\d+)*)", path.read_text()):
            found |= set(map(int, re.findall(r"\d+", numbers)))
    return found


def test_there_are_thirty():
    assert list(ROWS) == list(range(1, 31))


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_named_in_the_code_and_has_a_test(row):
    assert row in named_rows()
    for test in ROWS[row][1]:
        file, _, name = test.rpartition("::")
        assert test in CHECKS if not file else f"def {name}(" in (HERE / f"{file}.py").read_text()
