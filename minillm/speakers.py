"""The speakers of the course: Eliza, an n-gram model, a network that goes on with a text, one that answers.

A speaker is not always one who answers. A base model goes on with the text that it is given, whoever wrote it, and an
n-gram model with its last words; only a model that was taught by a chat template takes turns.

Paper:   Weizenbaum 1966, "ELIZA"; going on with a text in place of answering: Radford et al. 2019, "Language Models are
         Unsupervised Multitask Learners"; best of n by a reward model: Nakano et al. 2021, "WebGPT", §3,
         arXiv:2112.09332.
Names:   best of n is WebGPT's rejection sampling.
Differs: a base model reads each turn as a text of its own, with the token `end` between, as in its training.
Next:    minillm/speaker_files.py
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from minillm.adaptation.chat_template import ChatTemplate, ChatTokenizer, Message
from minillm.alignment.reward import RewardModel
from minillm.neural.language_model import LanguageModel
from minillm.rules.eliza import Eliza
from minillm.rules.script import BUILT_IN, parse_script
from minillm.speaker import Speaker, in_a_sentence, question_of, texts_of, unknown_words
from minillm.statistical.ngram import NGramModel
from minillm.statistical.ngram_counts import END_ID, START, UNKNOWN_ID
from minillm.statistical.sampling import sample_next
from minillm.text.tokenizer import UNKNOWN, WordTokenizer
from minillm.transformer.decoder import Decoder
from minillm.transformer.generate import generate, stream


@dataclass(eq=False)
class ElizaSpeaker(Speaker):
    """Eliza. Up to temperature 1 her replies take turns, as in 1966; above, the turn is drawn, so that she can differ.

    >>> talk = [Message(role="user", text="I remember the old mill.")]
    >>> "".join(ElizaSpeaker().reply(talk, temperature=1.0, generator=torch.Generator()))
    'What made you think of the old mill today?'
    """

    script: str = field(default_factory=lambda: BUILT_IN.read_text("utf-8"))  # its text: see `rules/script.py`
    name: str = "eliza"
    about: str = (
        "Eliza, after the program of 1966. She turns your own sentences round by rules and understands nothing. "
        "Tell her how you are."
    )
    suggestions: tuple[str, ...] = ("I remember the old mill.", "My brother is angry with me.", "Are you a machine?")

    def __post_init__(self) -> None:
        self._rules = parse_script(self.script)

    def reply(self, messages: Sequence[Message], *, temperature: float, generator: torch.Generator) -> Iterator[str]:
        """Her rules have a memory, so she hears the whole conversation again; then she answers, word by word."""
        eliza, last = Eliza(self._rules), question_of(messages)
        for message in messages[:-1]:
            if message.role == "user":
                eliza.reply(message.text)
        again = int(torch.randint(8, (), generator=generator)) if temperature > 1 else 0
        for _ in range(again):
            eliza.reply(last)
        return _words(eliza.reply(last))


@dataclass(eq=False)
class NGramSpeaker(Speaker):
    """An n-gram model over words. It goes on with the last sentence of the user, and sees nothing else.

    >>> model = NGramModel(order=2, smoothing="mle").fit([["the", "cat", "sat", "."]])
    >>> talk = [Message(role="user", text="the")]
    >>> "".join(NGramSpeaker(model).reply(talk, temperature=1.0, generator=torch.Generator()))
    'cat sat.'
    """

    model: NGramModel
    name: str = "ngram"
    about: str = (
        "An n-gram model. It does not answer: it goes on with your last words by what followed them in the text that "
        "was counted. Begin a sentence and let it go on."
    )
    suggestions: tuple[str, ...] = ()
    longest: int = 40  # words of an answer

    def reply(self, messages: Sequence[Message], *, temperature: float, generator: torch.Generator) -> Iterator[str]:
        """Words until the sentence ends. Where yours is at its end already, it begins another."""
        sentences = WordTokenizer.sentences(question_of(messages))
        return self._drawn([START, *(sentences[-1] if sentences else [])], temperature, generator)

    def unread(self, messages: Sequence[Message]) -> list[str]:
        """The words that were never counted."""
        known = set(self.model.vocabulary)
        return in_a_sentence([w for w in WordTokenizer.split(question_of(messages)) if w not in known], UNKNOWN)

    def _drawn(self, context: list[str], temperature: float, generator: torch.Generator) -> Iterator[str]:
        words: list[str] = []
        for _ in range(self.longest):
            log_p_v = self.model.logprobs([*context, *words])
            log_p_v[UNKNOWN_ID] = -math.inf
            chosen = int(sample_next(log_p_v, temperature, generator=generator))
            if chosen == END_ID and not words and context != [START]:
                context = [START]
                continue
            if chosen == END_ID:
                return
            before = WordTokenizer.join(words)
            words.append(self.model.vocabulary[chosen])
            yield WordTokenizer.join(words)[len(before) :]


@dataclass(eq=False)
class TextSpeaker(Speaker):
    """Any language model that goes on with the text. `end` is the token between documents in its training.

    >>> from minillm.neural.feedforward import FeedForwardConfig, FeedForwardLM
    >>> tokenizer = WordTokenizer.train("The cat sat.", special_tokens=["</s>"])
    >>> model = FeedForwardLM(FeedForwardConfig(vocabulary=6, d_model=3, hidden=5))
    >>> speaker, talk = TextSpeaker(model, tokenizer, end=5, longest=7), [Message(role="user", text="The dog")]
    >>> len(list(speaker.reply(talk, temperature=1.0, generator=torch.Generator().manual_seed(0)))) <= 7
    True
    >>> speaker.unread(talk)
    ['It does not know the word “dog”, and reads <unk> there.']
    """

    model: LanguageModel
    tokenizer: ChatTokenizer
    end: int
    name: str = "text"
    about: str = (
        "A language model that has only read. It does not answer: whatever you write, it goes on with the text. "
        "Begin a sentence and let it go on."
    )
    suggestions: tuple[str, ...] = ()
    longest: int = 60  # tokens of an answer

    def reply(self, messages: Sequence[Message], *, temperature: float, generator: torch.Generator) -> Iterator[str]:
        """Text until the model ends the document. Where it holds that yours is at its end already, it begins another.

        So much of the conversation is read as fits; of a text that is longer than the context, its end.
        """
        tokens, _ = self._read(messages)
        return texts_of(self._drawn(tokens, temperature, generator), self.tokenizer)

    def unread(self, messages: Sequence[Message]) -> list[str]:
        """Unknown words, and turns that do not fit into the context."""
        _, left_out = self._read(messages)
        found = unknown_words(question_of(messages), self.tokenizer)
        return found + ([] if not left_out else [_too_far_back(left_out, self.model)])

    def _read(self, messages: Sequence[Message]) -> tuple[list[int], int]:
        """The tokens to go on from, and how many of the oldest messages are not among them."""
        question_of(messages)
        documents: list[list[int]] = []
        for message in messages:
            ids = self.tokenizer.encode(message.text, allow_special=False) if message.role != "system" else []
            if message.role == "assistant" and documents:
                documents[-1] += ids
            elif message.role == "user":
                documents.append([self.end, *ids])
        room = _context(self.model)
        if room is None:
            return [token for document in documents for token in document], 0
        room -= min(self.longest, room // 2) + 1  # 1: for a second `end`
        tokens = documents.pop()[-room:]
        while documents and len(tokens) + len(documents[-1]) <= room:
            tokens = documents.pop() + tokens
        return tokens, 2 * len(documents)

    def _drawn(self, tokens: list[int], temperature: float, generator: torch.Generator) -> Iterator[int]:
        context = _context(self.model)
        others = [token for token in self.tokenizer.special_ids.values() if token != self.end]
        adjust = lambda logits_bv, _: _without(logits_bv, others)
        for start in (tokens, [*tokens, self.end]):
            most = self.longest if context is None else min(self.longest, context - len(start))
            said = False
            for token in stream(self.model, start, most, temperature, generator, stop_tokens=[self.end], adjust=adjust):
                if token == self.end:
                    break
                said = True
                yield token
            if said:
                return


@dataclass(eq=False)
class ChatSpeaker(Speaker):
    """A decoder that was taught to answer through a chat template.

    >>> from minillm.adaptation.chat_template import SPECIAL_TOKENS, conversation
    >>> from minillm.transformer.decoder import gpt2
    >>> template = ChatTemplate(WordTokenizer.train("yes no", special_tokens=SPECIAL_TOKENS))
    >>> speaker = ChatSpeaker(Decoder(gpt2(vocabulary=7, context=16, n_layer=1, n_head=1, d_model=4)), template)
    >>> answer = speaker.reply(conversation("yes"), temperature=1.0, generator=torch.Generator().manual_seed(0))
    >>> set("".join(answer).split()) <= {"yes", "no", "<unk>"}
    True
    """

    model: Decoder
    template: ChatTemplate
    name: str = "chat"
    about: str = (
        "A small model that was taught to answer. All that it knows is one village and its people; about anything "
        "else it has never read a word, and it may answer all the same."
    )
    suggestions: tuple[str, ...] = ()
    longest: int = 64  # tokens of an answer

    def reply(self, messages: Sequence[Message], *, temperature: float, generator: torch.Generator) -> Iterator[str]:
        """Text until the model ends its turn. The newest turns are read, as many as fit into the context."""
        tokens, _ = self.read(messages)
        drawn = stream(self.model, tokens, self.most(tokens), temperature, generator,
                       stop_tokens=[self.template.end_id], adjust=self.adjust)  # fmt: skip
        return texts_of((token for token in drawn if token != self.template.end_id), self.template.tokenizer)

    def unread(self, messages: Sequence[Message]) -> list[str]:
        """Unknown words, and turns that do not fit into the context."""
        _, left_out = self.read(messages)
        found = unknown_words(question_of(messages), self.template.tokenizer)
        return found + ([] if not left_out else [_too_far_back(left_out, self.model)])

    def read(self, messages: Sequence[Message]) -> tuple[list[int], int]:
        """The tokens of as many of the newest turns as fit, and how many of the oldest messages are left out."""
        question_of(messages)
        system = list(messages[:1]) if messages[0].role == "system" else []
        turns = list(messages[len(system) :])
        sizes = [len(self.template.text_ids(message.text)) + 2 for message in turns]  # 2: who speaks, and the end
        room = self.model.config.context - min(self.longest, self.model.config.context // 2) - 1  # 1: the answer's end
        used = 1 + sum(len(self.template.text_ids(message.text)) + 2 for message in system) + sizes[-1]
        if used > room:
            raise ValueError(
                f"this message is {used} tokens long, and at most {room} can be read at once; say it in fewer words"
            )
        first = len(turns) - 1
        while first >= 2 and used + sizes[first - 1] + sizes[first - 2] <= room:
            used += sizes[first - 1] + sizes[first - 2]
            first -= 2
        return self.template.encode([*system, *turns[first:]], reply=True).tokens, first

    def most(self, tokens: Sequence[int]) -> int:
        """How many tokens an answer may have after these."""
        return min(self.longest, self.model.config.context - len(tokens) - 1)

    def adjust(self, logits_bv: Tensor, rows: list[list[int]]) -> Tensor:
        """Forbid what has no place within an answer: the tokens that say who speaks, and other special ones."""
        special = self.template.tokenizer.special_ids.values()
        return _without(logits_bv, [token for token in special if token != self.template.end_id])


@dataclass(eq=False)
class BestOfSpeaker(Speaker):
    """Draws n answers of a chat model and gives the one that a reward model likes best.

    The reward model reads a conversation as the speaker does, the answer with its end: what it learns from
    `alignment.chats.encode_chats`.

    >>> from minillm.adaptation.chat_template import SPECIAL_TOKENS, conversation
    >>> from minillm.transformer.decoder import gpt2
    >>> template = ChatTemplate(WordTokenizer.train("yes no", special_tokens=SPECIAL_TOKENS))
    >>> model = Decoder(gpt2(vocabulary=7, context=16, n_layer=1, n_head=1, d_model=4))
    >>> speaker = BestOfSpeaker(ChatSpeaker(model, template), RewardModel(model), n=3)
    >>> answer = speaker.reply(conversation("yes"), temperature=1.0, generator=torch.Generator().manual_seed(0))
    >>> isinstance("".join(answer), str)
    True
    """

    speaker: ChatSpeaker
    reward: RewardModel
    n: int = 4
    name: str = "best-of-n"
    about: str = (
        "A small model that was taught to answer, and a judge: of several answers you see the one that a reward model "
        "likes best. All that they know is one village and its people."
    )
    suggestions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 1:
            raise ValueError(f"n={self.n!r} must be a whole number of at least 1; n=4 works")
        if (theirs := self.reward.trunk.vocabulary) != (ours := self.speaker.model.vocabulary):
            raise ValueError(f"reward reads {theirs} tokens, but the speaker writes {ours}; the rule is one tokenizer "
                             "for both: RewardModel(speaker.model) works")  # fmt: skip

    def reply(self, messages: Sequence[Message], *, temperature: float, generator: torch.Generator) -> Iterator[str]:
        """The best of n answers; nothing is shown before all are drawn."""
        tokens, _ = self.speaker.read(messages)
        return self._best(tokens, temperature, generator)

    def unread(self, messages: Sequence[Message]) -> list[str]:
        """What the speaker cannot read."""
        return self.speaker.unread(messages)

    def _best(self, tokens: list[int], temperature: float, generator: torch.Generator) -> Iterator[str]:
        template, most = self.speaker.template, self.speaker.most(tokens)
        rows = generate(self.speaker.model, [tokens] * self.n, most, temperature, generator,
                        stop_tokens=[template.end_id], adjust=self.speaker.adjust)  # fmt: skip
        answers = [row[len(tokens) :] for row in rows]
        best = answers[int(self.reward.score([tokens] * self.n, answers).argmax())]
        yield from texts_of((token for token in best if token != template.end_id), template.tokenizer)


def _too_far_back(left_out: int, model: LanguageModel) -> str:
    return (
        f"The conversation is longer than its context of {_context(model)} tokens: the first {left_out} messages are "
        "out of its sight."
    )


def _context(model: LanguageModel) -> int | None:
    """The most tokens that a model reads; None: as many as there are."""
    return getattr(getattr(model, "config", None), "context", None)


def _words(text: str) -> Iterator[str]:
    """A text word by word."""
    for place, word in enumerate(text.split(" ")):
        yield f" {word}" if place else word


def _without(logits_bv: Tensor, tokens: list[int]) -> Tensor:
    logits_bv[:, tokens] = -math.inf
    return logits_bv
