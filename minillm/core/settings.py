"""Settings are checked where they arrive: the name, the value, the rule, and a value that works.

Names:   a whole number is a Python int; True and False are not numbers here, although Python counts them as such.
Next:    minillm/core/files.py
"""

from collections.abc import Mapping


def check_whole_numbers(settings: Mapping[str, tuple[object, int]], least: int = 1) -> None:
    """Refuse each setting that is no whole number of at least `least`; each comes as (value, one that works).

    >>> check_whole_numbers({"window": (5, 5), "epochs": (0, 3)})
    Traceback (most recent call last):
    ValueError: epochs=0 must be a whole number of at least 1; epochs=3 works
    """
    for name, (value, works) in settings.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number of at least {least}; {name}={works} works")


def check_seed(seed: object) -> None:
    """Refuse what a torch generator cannot start from.

    >>> check_seed(-1)
    Traceback (most recent call last):
    ValueError: seed=-1 must be a whole number from 0; 0 works
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed!r} must be a whole number from 0; 0 works")
