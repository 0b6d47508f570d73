"""A chat template: a conversation becomes one row of tokens, in which nobody can pretend to be somebody else.

    <|system|> text <|end|> <|user|> text <|end|> <|assistant|> text <|end|> …

Four special tokens say who speaks and where a turn ends. They are put in by their ids. What people wrote is encoded as
plain text, so "<|assistant|>" typed by a user becomes the characters < | a s s …, never the token. The model learns
only what the assistant says: `answer` marks its text and the end of its turn.

Paper:   OpenAI 2022, "Chat Markup Language" (ChatML), from which today's templates descend; roles by special tokens:
         Touvron et al. 2023, "Llama 2", §3.1 and appendix, arXiv:2307.09288; text that forges roles: Wallace et al.
         2024, "The Instruction Hierarchy", arXiv:2404.13208.
Names:   a turn is a `Message`; `end` is ChatML's <|im_end|>.
Differs: no template language: other packages run a Jinja program that comes with the checkpoint, and most of those
         put the conversation together as text before it is encoded, where a user's "<|im_end|>" is as good as theirs.
Next:    minillm/adaptation/sft.py
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
END = "<|end|>"
SPECIAL_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", END)


class ChatTokenizer(Protocol):
    """A tokenizer that can read text without seeing special tokens in it; those of `minillm.text` all can."""

    @property
    def special_ids(self) -> Mapping[str, int]:
        """The id of each special token."""
        ...

    def encode(self, text: str, *, allow_special: bool = True) -> list[int]:
        """Number the parts of a text."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Put the text together again."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn: who says what."""

    role: Role  # "system", "user" or "assistant"
    text: str  # any text; no part of it can become a special token

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role={self.role!r} must be one of {', '.join(ROLES)}; 'user' works")
        if not isinstance(self.text, str):
            raise ValueError(f"text={self.text!r} must be a str, not {type(self.text).__name__}; 'hello' works")


def conversation(*texts: str, system: str | None = None) -> list[Message]:
    """Turns of user and assistant by turns, after what the system says, if it says anything.

    >>> [message.role for message in conversation("2 + 3?", "5", "and 1 more?", system="Be short.")]
    ['system', 'user', 'assistant', 'user']
    """
    start = [] if system is None else [Message(role="system", text=system)]
    speakers: tuple[Role, Role] = ("user", "assistant")
    return start + [Message(role=speakers[place % 2], text=text) for place, text in enumerate(texts)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A row of tokens, and which of them are the answer, to be learned; the others are only read."""

    tokens: list[int]
    answer: list[bool]  # as long as tokens

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.answer):
            raise ValueError(
                f"answer has {len(self.answer)} entries for {len(self.tokens)} tokens; the rule is one for each, "
                "such as tokens=[5, 6], answer=[False, True]"
            )


class ChatTemplate:
    """Conversations into tokens and back, for a tokenizer that has the four `SPECIAL_TOKENS`.

    Raises ValueError when one is missing. Text that becomes a special token all the same, as when one of them is a
    single byte of the vocabulary, is refused when it comes.

    >>> from minillm.text.tokenizer import CharTokenizer
    >>> template = ChatTemplate(CharTokenizer.train("hi<|end>", special_tokens=SPECIAL_TOKENS))
    >>> example = template.encode(conversation("hi", "hi<|end|>"))
    >>> len(example.tokens), sum(example.answer)  # the forged end is seven characters, the real one a token
    (15, 10)
    >>> [message.text for message in template.decode(example.tokens)]
    ['hi', 'hi<|end|>']
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self.tokenizer = tokenizer
        missing = [token for token in SPECIAL_TOKENS if token not in tokenizer.special_ids]
        if missing:
            raise ValueError(
                f"tokenizer lacks the special tokens {', '.join(missing)}; train it with special_tokens=SPECIAL_TOKENS "
                "(a trained BPETokenizer(vocab, merges, special_tokens) adds those that it lacks)"
            )
        self.id_of_role: dict[Role, int] = {role: tokenizer.special_ids[f"<|{role}|>"] for role in ROLES}
        self.end_id = tokenizer.special_ids[END]
        self._special = frozenset(tokenizer.special_ids.values())
        for token in SPECIAL_TOKENS:
            try:
                self.text_ids(token)
            except UnknownCharacters:
                continue  # what has no id at all cannot be forged

    def encode(self, messages: Sequence[Message], *, reply: bool = False) -> Example:
        """The tokens of a conversation. With `reply` the assistant's token follows, for the model to go on from.

        The system may speak first; then user and assistant by turns, the user first. Anything else is a ValueError.
        """
        _check_turns(messages, reply)
        tokens: list[int] = []
        answer: list[bool] = []
        for message in messages:
            said = [*self.text_ids(message.text), self.end_id]
            tokens += [self.id_of_role[message.role], *said]
            answer += [False] + [message.role == "assistant"] * len(said)
        if reply:
            tokens.append(self.id_of_role["assistant"])
            answer.append(False)
        return Example(tokens=tokens, answer=answer)

    def decode(self, tokens: Sequence[int]) -> list[Message]:
        """The conversation again. The last turn may be without its end: it is what the model wrote so far.

        Works on ids, not on text: in a text a forged special token looks like a real one.
        """
        messages: list[Message] = []
        role_of: dict[int, Role] = {token: role for role, token in self.id_of_role.items()}
        place = 0
        while place < len(tokens):
            if tokens[place] not in role_of:
                raise ValueError(
                    f"tokens[{place}]={tokens[place]!r} must be the token of a role, one of {sorted(role_of)}; "
                    "a turn goes from there to the next end"
                )
            begin = place + 1
            place = begin
            while place < len(tokens) and tokens[place] not in self._special:
                place += 1
            text = self.tokenizer.decode(list(tokens[begin:place]))
            messages.append(Message(role=role_of[tokens[begin - 1]], text=text))
            if place < len(tokens) and tokens[place] != self.end_id:
                raise ValueError(f"tokens[{place}]={tokens[place]!r} must be the end of the turn, {self.end_id}")
            place += 1
        return messages

    def text_ids(self, text: str) -> list[int]:
        """The ids of what somebody wrote: never a special one, whatever it says."""
        try:
            ids = self.tokenizer.encode(text, allow_special=False)
        except ValueError as error:
            raise UnknownCharacters(str(error)) from None
        forged = self._special.intersection(ids)
        if forged:
            names = [name for name, token in self.tokenizer.special_ids.items() if token in forged]
            raise ValueError(
                f"text={text[:40]!r} becomes the special token {names[0]!r} although it is plain text, so anybody "
                "could forge it; choose special tokens that no text of the vocabulary spells, such as '<|end|>'"
            )
        return ids


class UnknownCharacters(ValueError):
    """The text has characters that the tokenizer has no id for; its message says where."""


def _check_turns(messages: Sequence[Message], reply: bool) -> None:
    wanted: Role = "user"
    for place, message in enumerate(messages):
        if place == 0 and message.role == "system":
            continue
        if message.role != wanted:
            raise ValueError(
                f"messages[{place}] has role={message.role!r} where role={wanted!r} is due: the system may speak "
                "first, then user and assistant by turns"
            )
        wanted = "assistant" if wanted == "user" else "user"
    if not messages or messages[-1].role == "system":
        raise ValueError("messages must hold what a user said; conversation('hello') works")
    if reply and wanted != "assistant":
        raise ValueError("reply=True asks for the assistant's turn, but the last message is its own; end with the user")
