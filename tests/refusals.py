"""What tests of exercise checks share: an answer that must be refused with its diagnosis, and one not written yet."""

import pytest

from minillm.course.checks import NotWrittenYet, Wrong, check


def refuse(name, answer, says):
    """The check must call the answer wrong, not unwritten, and say `says`."""
    with pytest.raises(Wrong) as caught:
        check(name, answer)
    assert not isinstance(caught.value, NotWrittenYet)
    assert says in str(caught.value), str(caught.value)


def stub(*_):
    """An exercise as a learner finds it."""
    raise NotImplementedError
