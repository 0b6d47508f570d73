"""Small speakers of every kind, untrained: what they say is nonsense, and the same nonsense each time."""

import torch

from minillm.adaptation.chat_template import SPECIAL_TOKENS, ChatTemplate, conversation
from minillm.alignment.reward import RewardModel
from minillm.neural.feedforward import FeedForwardConfig, FeedForwardLM
from minillm.neural.recurrent import RecurrentConfig, RecurrentLM
from minillm.speaker import Speaker
from minillm.speakers import BestOfSpeaker, ChatSpeaker, ElizaSpeaker, NGramSpeaker, TextSpeaker
from minillm.statistical.ngram import NGramModel
from minillm.text.bpe import BPETokenizer
from minillm.text.tokenizer import CharTokenizer, WordTokenizer
from minillm.transformer.decoder import Decoder, gpt2, llama

TEXT = "Olga has a goat. Leo has a hen. Olga lives by the hill. Where does Leo live? Leo lives by the river."
SENTENCES = [WordTokenizer.split(sentence + ".") for sentence in TEXT.split(".")[:3]]


def loud(model):
    """A model whose first weights are large enough that its logits differ."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model


def words():
    return WordTokenizer.train(TEXT, special_tokens=["</s>", *SPECIAL_TOKENS])


def text_speaker(model_of, tokenizer=None, **how):
    tokenizer = tokenizer or words()
    return TextSpeaker(loud(model_of(len(tokenizer.vocab))), tokenizer, tokenizer.special_ids["</s>"], **how)


def window(v):
    return FeedForwardLM(FeedForwardConfig(vocabulary=v, window=3, d_model=5, hidden=7))


def lstm(v):
    return RecurrentLM(RecurrentConfig(vocabulary=v, d_model=5, hidden=6, layers=2))


def gpt(v, context=40):
    return Decoder(gpt2(vocabulary=v, context=context, n_layer=2, n_head=2, d_model=6))


def untied(v, context=40):
    return Decoder(llama(vocabulary=v, context=context, n_layer=1, n_head=4, d_model=8, n_kv_head=2, tied=False))


def chat_speaker(context=40, **how):
    tokenizer = words()
    return ChatSpeaker(loud(gpt(len(tokenizer.vocab), context)), ChatTemplate(tokenizer), **how)


def best_of_speaker(n=3, **how):
    speaker = chat_speaker(**how)
    return BestOfSpeaker(speaker, loud(RewardModel(speaker.model)), n)


def ngram_speaker(**how):
    return NGramSpeaker(NGramModel(order=3).fit(SENTENCES), **how)


def bpe_speaker():
    return text_speaker(gpt, BPETokenizer.train(TEXT + " été", 270, special_tokens=["</s>"]))


def character_speaker():
    return text_speaker(untied, CharTokenizer.train(TEXT, special_tokens=["</s>"]))


KINDS = {
    "eliza": lambda: ElizaSpeaker(suggestions=("Hello.",)),
    "ngram": ngram_speaker,
    "window": lambda: text_speaker(window, name="window", about="a network", suggestions=("Olga", "Leo")),
    "lstm": lambda: text_speaker(lstm),
    "gpt": lambda: text_speaker(gpt, longest=9),
    "bpe": bpe_speaker,
    "characters": character_speaker,
    "chat": lambda: chat_speaker(longest=11),
    "best-of": best_of_speaker,
}


def say(speaker, *texts, seed=0, temperature=1.0, system=None):
    generator = torch.Generator().manual_seed(seed)
    talk = conversation(*texts, system=system)
    return list(speaker.reply(talk, temperature=temperature, generator=generator))


class Counter(Speaker):
    """Says how often it was asked, in pieces; in `trouble` it fails after the second."""

    name, about, suggestions = "counter", "It counts.", ("One?", "Two?", "Three?", "Four?")

    def __init__(self, trouble=None):
        self.asked, self.trouble, self.heard = 0, trouble, []

    def reply(self, messages, *, temperature, generator):
        self.asked += 1
        self.heard.append([message.text for message in messages])
        for place, piece in enumerate(["answer", " number", f" {self.asked}"]):
            if self.trouble and place == 2:
                raise self.trouble
            yield piece
