"""Answers within a conversation as comparisons: what was said before is the prompt, turns with an empty line between.

    "Who has a goat?  ¶¶  Olga has a goat.  ¶¶  And a hen?"        the user begins, then by turns

A judgement about an answer means nothing without the question, nor the third question without the first two. As one
text all of it fits into a `Comparison`, so that chapter 19 reads such judgements as any others; and the turns can be
taken apart again, for a reward model that reads them through a chat template.

Paper:   Bai et al. 2022, "Training a Helpful and Harmless Assistant with Reinforcement Learning from Human Feedback",
         §2.3, arXiv:2204.05862: two answers to the same conversation so far, one of them chosen.
Differs: an empty line within a turn becomes a line end, so that no turn can pretend to be two.
Next:    minillm/alignment/responses.py
"""

import re
from collections.abc import Sequence

from minillm.adaptation.chat_template import ChatTemplate, Message, conversation
from minillm.alignment.preferences import Comparison
from minillm.alignment.reward import Preferred

_BETWEEN = "\n\n"
_EMPTY_LINES = re.compile(r"\n\s*\n")


def as_prompt(messages: Sequence[Message]) -> str:
    """The turns of a conversation that ends with a question, as one text. What the system says is left out.

    >>> as_prompt(conversation("Who has a goat?", "Olga.", "And a hen?"))
    'Who has a goat?\\n\\nOlga.\\n\\nAnd a hen?'
    """
    return _BETWEEN.join(_EMPTY_LINES.sub("\n", m.text).strip() or "…" for m in messages if m.role != "system")


def as_turns(prompt: str) -> list[Message]:
    """The turns of a prompt again: user and assistant by turns.

    >>> [message.role for message in as_turns("Who has a goat?\\n\\nOlga.\\n\\nAnd a hen?")]
    ['user', 'assistant', 'user']
    """
    return conversation(*_EMPTY_LINES.split(prompt))


def encode_chats(comparisons: Sequence[Comparison], template: ChatTemplate) -> list[Preferred]:
    """Comparisons as a chat model reads and writes them, for a `RewardModel` on the trunk of one.

    A prompt with an even number of turns ends with an answer, not a question: ValueError.

    >>> from minillm.adaptation.chat_template import SPECIAL_TOKENS
    >>> from minillm.text.tokenizer import WordTokenizer
    >>> template = ChatTemplate(WordTokenizer.train("yes no", special_tokens=SPECIAL_TOKENS))
    >>> encode_chats([Comparison(prompt="yes", answers=("yes", "no no"), choice=1, who="me")], template)
    [Preferred(prompt=[4, 2, 6, 5], better=[1, 1, 6], worse=[2, 6])]
    """
    return [
        Preferred(
            prompt=template.encode(as_turns(one.prompt), reply=True).tokens,
            better=[*template.text_ids(one.better), template.end_id],
            worse=[*template.text_ids(one.worse), template.end_id],
        )
        for one in comparisons
    ]
