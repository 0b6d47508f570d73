"""The list of bugs: classes by what is wrong with them."""

from minillm.alignment.ppo import PPO

BUGS: dict[str, type[PPO]] = {}


def bug(description):
    """Put a class on the list, under what is wrong with it."""

    def remember(kind):
        BUGS[description] = kind
        return kind

    return remember
