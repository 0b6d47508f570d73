"""The mutation gate: each bug of `tests/ppo_bugs.py`, put into our trainer, is seen by the checks that a table names.

The table is written by `python tests/ppo_bugs.py > tests/alignment/ppo_bugs.md`, which runs every check on every bug;
here each pair that it claims is run again, and our own trainer on all of them (`test_ppo.py`).
"""

from pathlib import Path

import pytest
from ppo_bugs import BUGS
from ppo_checks import CHECKS

TABLE = Path(__file__).with_name("ppo_bugs.md")
PROOFS = {"soft_bellman", "gradient", "gradient_with_exact_critic", "padding"}


def seen_by():
    """Bug and the names of the checks that see it, from the table."""
    rows = [line.split("|") for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    return {row[1].strip(): row[2].strip().split(", ") for row in rows[1:]}


def test_the_table_holds_every_bug_and_no_other():
    assert list(seen_by()) == list(BUGS)
    assert all(set(names) <= set(CHECKS) for names in seen_by().values())


def test_every_check_sees_some_bug():
    assert {name for names in seen_by().values() for name in names} == set(CHECKS)


@pytest.mark.no_promises
@pytest.mark.parametrize("name", BUGS)
def test_the_bug_is_seen(name):
    names = seen_by()[name]
    dear = [check for check in names if check in PROOFS]  # one proof that sees it is enough; the rest costs nothing
    for check in [*dear[-1:], *(check for check in names if check not in PROOFS)]:
        with pytest.raises(AssertionError):
            CHECKS[check](BUGS[name])
