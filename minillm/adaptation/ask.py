"""Ask: put prompts to a model through a chat template, and read what the assistant says.

    answer = text of the tokens that follow  <|user|> prompt <|end|> <|assistant|>,  up to <|end|>

The likeliest token each time, so the same question always gets the same answer. All prompts are read side by side.

Paper:   Ouyang et al. 2022, "InstructGPT", §3.5, arXiv:2203.02155: a prompt in, the model's turn out.
Differs: greedy, where InstructGPT draws.
Next:    minillm/adaptation/modules.py
"""

from collections.abc import Sequence

from minillm.adaptation.chat_template import ChatTemplate, conversation
from minillm.transformer.decoder import Decoder
from minillm.transformer.generate import generate

AT_ONCE = 256  # rows side by side: more would need more memory and save no time


def ask(model: Decoder, template: ChatTemplate, prompts: Sequence[str], max_new_tokens: int = 16) -> list[str]:
    """The assistant's turn after each prompt, of at most `max_new_tokens` tokens; "" where it ends its turn at once.

    >>> from minillm.adaptation.chat_template import SPECIAL_TOKENS
    >>> from minillm.text.tokenizer import WordTokenizer
    >>> from minillm.transformer.decoder import gpt2
    >>> template = ChatTemplate(WordTokenizer.train("yes no", special_tokens=SPECIAL_TOKENS))
    >>> model = Decoder(gpt2(vocabulary=7, context=9, n_layer=1, n_head=1, d_model=4))
    >>> len(ask(model, template, ["yes", "no no"], max_new_tokens=3))
    2
    """
    rows = [template.encode(conversation(prompt), reply=True).tokens for prompt in prompts]
    return answers(model, template, rows, max_new_tokens)


def answers(
    model: Decoder, template: ChatTemplate, rows: Sequence[Sequence[int]], max_new_tokens: int = 16
) -> list[str]:
    """The same after rows of tokens, however they were made; each should end with the token of the assistant."""
    texts: list[str] = []
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        written = generate(model, some, max_new_tokens, temperature=0, stop_tokens=[template.end_id])
        for row, whole in zip(some, written, strict=True):
            new = whole[len(row) :]
            texts.append(template.tokenizer.decode(new[:-1] if new[-1:] == [template.end_id] else new))
    return texts
