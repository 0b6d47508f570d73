"""Speakers on disk: whole, or told what is wrong with them; and they say the same as before."""

import json

import pytest
import torch
from small_speakers import KINDS, SENTENCES, chat_speaker, gpt, loud, lstm, say, text_speaker, words

import minillm.speaker_files as speaker_files
from minillm.adaptation.chat_template import SPECIAL_TOKENS, ChatTemplate, conversation
from minillm.adaptation.lora import add_lora
from minillm.neural.recurrent import TruncatedBPTT
from minillm.speaker_files import CARD, load_speaker, save_speaker
from minillm.speakers import ChatSpeaker, ElizaSpeaker, NGramSpeaker, TextSpeaker
from minillm.statistical.ngram import NGramModel
from minillm.text.tokenizer import WordTokenizer
from minillm.transformer.decoder import Decoder, gpt2

pytestmark = pytest.mark.no_promises
QUESTIONS = [("Olga has a",), ("Where does Leo live?",), ("Olga", "has a goat.", "Leo has"), ("?",)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_speaker_comes_back_and_says_the_same(kind, tmp_path):
    speaker = KINDS[kind]()
    save_speaker(speaker, tmp_path)
    again = load_speaker(tmp_path)
    assert type(again) is type(speaker)
    assert (again.name, again.about, again.suggestions) == (speaker.name, speaker.about, speaker.suggestions)
    for seed, texts in enumerate(QUESTIONS):
        assert say(again, *texts, seed=seed) == say(speaker, *texts, seed=seed)
    strange = conversation("has Leo?" if kind == "characters" else "Berlin?")
    assert again.unread(strange) == speaker.unread(strange)


def test_saving_again_replaces_and_leaves_nothing_behind(tmp_path):
    save_speaker(KINDS["window"](), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "parts-0123456789ab").mkdir()  # of a program that was killed while it saved
    save_speaker(KINDS["chat"](), tmp_path)
    assert type(load_speaker(tmp_path)) is ChatSpeaker
    assert len(list(tmp_path.glob("parts-*"))) == 1 and (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("broken", ["write_tensors", "sync_folder", "write_atomically"])
def test_a_disk_that_is_full_keeps_the_speaker_of_before(broken, tmp_path, monkeypatch):
    save_speaker(KINDS["window"](), tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(speaker_files, broken, full)
    with pytest.raises(OSError, match="No space"):
        save_speaker(KINDS["gpt"](), tmp_path)
    monkeypatch.undo()
    assert load_speaker(tmp_path).name == "window" and len(list(tmp_path.glob("parts-*"))) == 1


def one_part(folder, name):
    return next(folder.glob(f"parts-*/{name}"))


def cut(folder):
    path = one_part(folder, "model.safetensors")
    path.write_bytes(path.read_bytes()[:-7])


def change(folder):
    path = one_part(folder, "model.safetensors")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def card(**changes):
    def edit(folder):
        fields = json.loads((folder / CARD).read_text())
        (folder / CARD).write_text(json.dumps(fields | changes))

    return edit


def described(**changes):
    """Another model.json, its hash made right: what somebody wrote on purpose."""

    def edit(folder):
        path = one_part(folder, "model.json")
        fields = json.loads(path.read_text())
        config = {name: value for name, value in (fields["config"] | changes).items() if value != "gone"}
        path.write_text(json.dumps(fields | {"config": config}))
        files = json.loads((folder / CARD).read_text())["files"]
        card(files=files | {"model.json": speaker_files._mark(path)})(folder)

    return edit


DAMAGE = {
    "cut": (cut, r"model.safetensors' was cut or changed: it has .* bytes, not"),
    "changed": (change, "model.safetensors' was changed"),
    "missing part": (lambda f: one_part(f, "tokenizer.json").unlink(), "tokenizer.json' is missing"),
    "no card": (lambda f: (f / CARD).unlink(), "nobody to talk to"),
    "half a card": (lambda f: (f / CARD).write_text((f / CARD).read_text()[:40]), "not sound JSON"),
    "a list": (lambda f: (f / CARD).write_text("[]"), "holds a list"),
    "foreign": (card(format="other"), "format='other'"),
    "newer": (card(version=2), "version=2, and this minillm reads 1: a newer one wrote it"),
    "another kind": (card(kind="oracle"), "kind='oracle'; known: eliza"),
    "a way out": (card(parts="../secret"), "parts='../secret'"),
    "no name": (card(name=7), "must be texts"),
    "settings": (card(settings={"longest": "9"}), "longest='9'"),
    "no settings": (card(settings={}), "has no 'longest'"),
    "files": (card(files=7), "cannot|has no|attribute"),
    "wider": (described(d_model=600), "has shape"),
    "endless": (described(n_layer=10**9), "n_layer=1000000000 of"),
    "unknown field": (described(fast=True), "'fast'"),
    "a field less": (described(mlp="gone"), "'mlp'"),
    "a wrong value": (described(positions="magic"), "positions='magic'"),
    "a wrong type": (described(d_model="6"), "d_model='6'"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_cannot_be_loaded_is_told(damage, tmp_path):
    save_speaker(KINDS["chat"](), tmp_path)
    hurt, says = DAMAGE[damage]
    hurt(tmp_path)
    with pytest.raises(ValueError, match=says) as caught:
        load_speaker(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="nobody to talk to"):
        load_speaker(tmp_path / "nowhere")


class Parrot:
    name, about, suggestions = "parrot", "It repeats.", ()

    def reply(self, messages, *, temperature, generator):
        yield messages[-1].text

    def unread(self, messages):
        return []


def with_lora():
    speaker = chat_speaker()
    add_lora(speaker.model, "blocks.*", 2)
    return speaker


def with_an_own_tokenizer():
    class Mine(WordTokenizer):
        pass

    speaker = text_speaker(gpt)
    speaker.tokenizer = object()
    return speaker


REFUSED = {
    "a stranger": (Parrot, "is a Parrot"),
    "lora": (with_lora, "merge and remove"),
    "a wrapper": (lambda: TextSpeaker(TruncatedBPTT(lstm(9)), words(), 0), "is a TruncatedBPTT"),
    "a tokenizer": (with_an_own_tokenizer, "one of minillm.text"),
    "add-k": (lambda: NGramSpeaker(NGramModel(order=2, smoothing="add-k").fit(SENTENCES)), "ARPA cannot hold it"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_saved_is_refused_and_leaves_nothing(what, tmp_path):
    make, says = REFUSED[what]
    with pytest.raises(ValueError, match=says):
        save_speaker(make(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_number_formats_come_back_too(tmp_path):
    tokenizer = words()
    model = loud(Decoder(gpt2(vocabulary=len(tokenizer.vocab), context=30, n_layer=1, n_head=1, d_model=4)))
    save_speaker(ChatSpeaker(model.double(), ChatTemplate(tokenizer)), tmp_path)
    again = load_speaker(tmp_path).model
    assert again.score.weight is again.embedding.weight and again.embedding.weight.dtype == torch.float64
    assert torch.equal(again.embedding.weight, model.embedding.weight)
    assert SPECIAL_TOKENS[3] in load_speaker(tmp_path).template.tokenizer.special_ids


def test_what_is_trained_anew_has_another_mark(tmp_path):
    save_speaker(ElizaSpeaker(), tmp_path)
    first = load_speaker(tmp_path).mark
    assert first == load_speaker(tmp_path).mark != ElizaSpeaker().mark == ""
    save_speaker(ElizaSpeaker(), tmp_path)
    assert load_speaker(tmp_path).mark not in (first, "")
