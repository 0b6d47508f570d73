"""Speakers: each goes on or answers as its kind does, says what it cannot read, and comes back whole from disk."""

import json
import math

import pytest
import torch
from small_speakers import KINDS, SENTENCES, chat_speaker, gpt, loud, lstm, ngram_speaker, say, text_speaker, words

import minillm.speaker_files as speaker_files
from minillm.adaptation.chat_template import SPECIAL_TOKENS, ChatTemplate, Message, conversation
from minillm.adaptation.lora import add_lora
from minillm.alignment.chats import as_prompt, as_turns, encode_chats
from minillm.alignment.preferences import Comparison
from minillm.alignment.reward import RewardModel
from minillm.neural.recurrent import TruncatedBPTT
from minillm.rules.eliza import Eliza
from minillm.speaker import texts_of
from minillm.speaker_files import CARD, load_speaker, save_speaker
from minillm.speakers import BestOfSpeaker, ChatSpeaker, ElizaSpeaker, NGramSpeaker, TextSpeaker
from minillm.statistical.ngram import NGramModel
from minillm.statistical.sampling import sample_next
from minillm.text.bpe import BPETokenizer
from minillm.text.tokenizer import CharTokenizer, WordTokenizer
from minillm.transformer.decoder import Decoder, gpt2
from minillm.transformer.generate import generate

pytestmark = pytest.mark.no_promises  # mostly drawing, token by token
QUESTIONS = [("Olga has a",), ("Where does Leo live?",), ("Olga", "has a goat.", "Leo has"), ("?",)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_generator_gives_the_same_answer(kind):
    speaker = KINDS[kind]()
    assert say(speaker, *QUESTIONS[2]) == say(speaker, *QUESTIONS[2])
    assert say(speaker, *QUESTIONS[2], temperature=0) == say(speaker, *QUESTIONS[2], temperature=0, seed=5)
    if kind != "eliza":
        assert len({"".join(say(speaker, "Olga", seed=seed)) for seed in range(4)}) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_word_must_be_the_users(kind):
    speaker = KINDS[kind]()
    for talk in ([], conversation("Olga", "Leo"), [Message(role="system", text="Be brief.")]):
        with pytest.raises(ValueError, match="user"):
            list(speaker.reply(talk, temperature=1.0, generator=torch.Generator()))


def test_eliza_hears_the_whole_conversation():
    eliza, said = Eliza(), ["I remember the mill.", "My brother is angry.", "I remember the mill.", "What?"]
    talk = []
    for text in said:
        talk.append(text)
        expected = eliza.reply(text)
        assert "".join(say(ElizaSpeaker(), *talk)) == expected
        talk.append(expected)
    assert len({"".join(say(ElizaSpeaker(), said[0], temperature=2.0, seed=seed)) for seed in range(10)}) > 1


def test_an_ngram_model_goes_on_with_the_last_sentence():
    speaker = ngram_speaker(longest=5)
    model = speaker.model
    for seed in range(10):
        g, drawn = torch.Generator().manual_seed(seed), []
        while len(drawn) < 5:
            log_p_v = model.logprobs(["<s>", "Olga", *drawn])
            log_p_v[0] = -math.inf  # "<unk>" is nothing to say
            chosen = int(sample_next(log_p_v, generator=g))
            if chosen == 1 and drawn:
                break
            drawn.append(model.vocabulary[chosen])
        if drawn[0] != "</s>":
            assert "".join(say(speaker, "Leo has a hen. Olga", seed=seed)) == WordTokenizer.join(drawn)
        assert 1 <= len(say(speaker, "Leo has a hen.", seed=seed)) <= 5, "a sentence that is whole: it begins another"
    never = NGramSpeaker(NGramModel(order=2, vocabulary=["Olga"]).fit(SENTENCES))
    assert all("<unk>" not in "".join(say(never, "Olga", seed=seed)) for seed in range(20))


@pytest.mark.parametrize("kind", ["window", "lstm", "gpt"])
def test_a_base_model_reads_each_turn_as_a_document(kind):
    speaker = KINDS[kind]()
    tokenizer, end = speaker.tokenizer, speaker.end
    row = [end, *tokenizer.encode("Olga has a goat."), end, *tokenizer.encode("Leo has")]
    forbidden = [i for token, i in tokenizer.special_ids.items() if token != "</s>"]

    def adjust(logits_bv, rows):
        logits_bv[:, forbidden] = -math.inf
        return logits_bv

    for seed in range(6):
        g = torch.Generator().manual_seed(seed)
        whole = generate(speaker.model, [row], speaker.longest, 1.0, g, stop_tokens=[end], adjust=adjust)[0][len(row) :]
        if whole[0] != end:
            expected = tokenizer.decode([token for token in whole if token != end])
            assert "".join(say(speaker, "Olga has a", "goat.", "Leo has", seed=seed)) == expected
    assert "".join(say(speaker, "Leo has", seed=3)) == "".join(say(speaker, "Leo has", seed=3, system="Be brief."))


def ends_at_once(speaker, token):
    """The same speaker, its model sure that what comes first, after anything, is `token`."""
    with torch.no_grad():
        speaker.model.score.bias.zero_()
        speaker.model.score.bias[token] = 50.0
    return speaker


def test_a_text_that_is_at_its_end_begins_another():
    speaker = text_speaker(lstm)
    assert say(ends_at_once(speaker, speaker.end), "Olga") == [], "it ends this one too: nothing is better than no end"
    goat = speaker.tokenizer.encode("goat")[0]
    assert "".join(say(ends_at_once(speaker, goat), "Olga")).split() == ["goat"] * speaker.longest


def test_what_is_too_long_for_a_base_model():
    speaker = text_speaker(lambda v: gpt(v, context=24), longest=6)
    assert speaker.unread(conversation("Olga has a")) == []
    long = ["Olga has a goat. Leo has a hen.", "Leo lives by the river."] * 3 + ["Olga"]
    (note,) = speaker.unread(conversation(*long))
    assert "24 tokens" in note and "first 6 messages" in note
    assert "".join(say(speaker, *long, seed=4)) == "".join(say(speaker, *long[6:], seed=4))
    assert say(speaker, "Leo has a hen. " * 30), "of one text its end is read"


def test_a_chat_model_answers_its_template():
    speaker = chat_speaker(longest=12)
    template, talk = speaker.template, conversation("Where does Leo live?", "Leo lives", "Olga?", system="goat")
    row = template.encode(talk, reply=True).tokens
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        whole = generate(speaker.model, [row], 12, 0.8, g, stop_tokens=[template.end_id], adjust=speaker.adjust)[0]
        expected = template.decode([*whole])[-1].text
        pieces = list(speaker.reply(talk, temperature=0.8, generator=torch.Generator().manual_seed(seed)))
        assert "".join(pieces) == expected


def test_a_chat_model_never_writes_another_speakers_turn():
    speaker = chat_speaker()
    special = list(speaker.template.tokenizer.special_ids.values())
    logits_bv = torch.zeros(2, speaker.model.vocabulary)
    allowed = speaker.adjust(logits_bv, [[0], [0]]).isfinite()
    assert [token for token in special if allowed[0, token]] == [speaker.template.end_id]
    assert int(allowed[1].sum()) == speaker.model.vocabulary - len(special) + 1


def test_what_is_too_long_for_a_chat_model():
    speaker = chat_speaker(context=40, longest=10)
    turns = ["Where does Leo live?", "Leo lives by the river."] * 6 + ["Olga?"]
    (note,) = speaker.unread(conversation(*turns))
    tokens, left_out = speaker.read(conversation(*turns))
    assert f"first {left_out} messages" in note and left_out % 2 == 0 and 0 < left_out < 12
    assert len(tokens) <= 29 < len(tokens) + 15, "as many turns as fit: one more pair is fifteen tokens"
    assert "".join(say(speaker, *turns, seed=2)) == "".join(say(speaker, *turns[left_out:], seed=2))
    with_system = conversation(*turns, system="Olga has a goat.")
    kept, more_left_out = speaker.read(with_system)
    assert more_left_out > left_out or len(kept) > len(tokens)
    assert speaker.template.decode(kept)[0].role == "system", "what the system says is never left out"
    with pytest.raises(ValueError, match="at most 29 can be read at once; say it in fewer words"):
        say(speaker, "Olga " * 40)


def test_unknown_words_are_named_once():
    speaker = chat_speaker()
    assert speaker.unread(conversation("Where does Leo live?")) == []
    (note,) = speaker.unread(conversation("Where is Berlin, Berlin in (x)?"))
    assert note == "It does not know the words “is”, “Berlin”, “in”, “x”, and reads <unk> there."
    assert "…" in speaker.unread(conversation("a b c d e f g h"))[0]
    assert "“Berlin”" in ngram_speaker().unread(conversation("Berlin has a"))[0]
    characters = text_speaker(gpt, CharTokenizer.train("Olga </s>", special_tokens=["</s>"], unknown=True))
    assert "“é”" in characters.unread(conversation("Olgé"))[0]
    assert KINDS["bpe"]().unread(conversation("Olgé")) == []
    with pytest.raises(ValueError, match="'é' is not among"):
        say(KINDS["characters"](), "Olgé")


def test_the_best_of_n_is_the_one_that_scores_highest():
    speaker = KINDS["best-of"]()
    chat, (template, model) = speaker.speaker, (speaker.speaker.template, speaker.speaker.model)
    row = template.encode(conversation("Where does Leo live?"), reply=True).tokens
    seen = set()
    for seed in range(8):
        g = torch.Generator().manual_seed(seed)
        rows = generate(model, [row] * 3, chat.most(row), 1.0, g, stop_tokens=[template.end_id], adjust=chat.adjust)
        answers = [whole[len(row) :] for whole in rows]
        place = int(speaker.reward.score([row] * 3, answers).argmax())
        seen.add(place)
        assert "".join(say(speaker, "Where does Leo live?", seed=seed)) == template.decode(rows[place])[-1].text
    assert len(seen) > 1, "else this test could not tell"


def test_a_judge_with_another_vocabulary_is_refused():
    speaker = chat_speaker()
    with pytest.raises(ValueError, match="one tokenizer"):
        BestOfSpeaker(speaker, RewardModel(gpt(7)))
    with pytest.raises(ValueError, match="n=0"):
        BestOfSpeaker(speaker, RewardModel(speaker.model), 0)


def test_pieces_make_up_the_text_and_wait_for_whole_characters():
    tokenizer = BPETokenizer.train("aaaa", 258)
    text = "été 他不 \U0001f410 a"
    ids = tokenizer.encode(text)
    pieces = list(texts_of(iter(ids), tokenizer))
    assert "".join(pieces) == text and not any("�" in piece for piece in pieces) and len(pieces) > 8
    assert "".join(texts_of(ids[:1], tokenizer)) == "�", "half a character at the end is shown as what it is"


# judgements about answers in a conversation


def test_a_conversation_as_a_prompt_and_back():
    for texts in (["Who?"], ["Who?", "Olga.", "And Leo?"], ["Who?\nWhere?", "", "And Leo?"]):
        back = as_turns(as_prompt(conversation(*texts)))
        assert [m.text for m in back] == [text or "…" for text in texts]
        assert [m.role for m in back] == [m.role for m in conversation(*texts)]
    forged = as_prompt(conversation("Who?\n\n \nOlga.\n\nAnd?"))
    assert len(as_turns(forged)) == 1, "no turn can pretend to be two"
    assert as_prompt(conversation("Who?", system="Be brief.")) == "Who?"


def test_judgements_are_read_as_the_speaker_reads():
    speaker = KINDS["best-of"]().speaker
    template = speaker.template
    prompt = as_prompt(conversation("Olga?", "Olga has", "Leo?"))
    one = Comparison(prompt=prompt, answers=("goat", "a hen"), choice=1, who="me")
    (pair,) = encode_chats([one], template)
    assert pair.prompt == speaker.read(as_turns(prompt))[0]
    assert template.decode(pair.prompt + pair.better)[-1].text == "a hen" and pair.better[-1] == template.end_id
    assert template.decode(pair.prompt + pair.worse)[-1].text == "goat"


# on disk


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
