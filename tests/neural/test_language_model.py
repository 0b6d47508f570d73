"""What all neural language models share: the loss, the bits per character, sampling, and what they refuse."""

import math

import pytest
import torch
from torch.testing import assert_close

from minillm.neural.feedforward import FeedForwardConfig, FeedForwardLM
from minillm.neural.language_model import LanguageModel, bits_per_character, check_tokens
from minillm.neural.recurrent import RecurrentConfig, RecurrentLM
from minillm.text.tokenizer import CharTokenizer, WordTokenizer

END = "|"
TEXTS = ["a cab", "b", "", "a bad cad abc", "dad"]
TOKENIZER = CharTokenizer.train("abcd ", special_tokens=[END])
STOP = TOKENIZER.special_ids[END]
V = len(TOKENIZER.vocab)
MODELS = {
    "window": lambda: FeedForwardLM(FeedForwardConfig(vocabulary=V, window=3, d_model=4, hidden=5)),
    "lstm": lambda: RecurrentLM(RecurrentConfig(vocabulary=V, d_model=4, hidden=5)),
    "gru": lambda: RecurrentLM(RecurrentConfig(vocabulary=V, d_model=4, hidden=5, layers=2, cell="gru", fused=False)),
}


class Fixed(LanguageModel):
    """The same logits after every token, or those of a table of what follows what."""

    def __init__(self, table_vv):
        super().__init__(len(table_vv))
        self.table = torch.nn.Parameter(torch.as_tensor(table_vv, dtype=torch.float32))

    def forward(self, tokens_bt):
        return self.table[tokens_bt]


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


def test_no_idea_costs_log_v_a_token():
    model = Fixed(torch.zeros(V, V))
    assert_close(model.loss(torch.tensor([[0, 1, 2], [3, 4, 5]])).item(), math.log(V))
    symbols = sum(len(text) + 1 for text in TEXTS)  # every document's end is paid for
    characters = sum(map(len, TEXTS))
    assert bits_per_character(model, TEXTS, TOKENIZER, STOP) == pytest.approx(symbols * math.log2(V) / characters)


def test_the_loss_is_about_the_token_that_comes_next():
    table = torch.full((V, V), -50.0)
    table[torch.arange(V), (torch.arange(V) + 1) % V] = 50.0  # it knows: after i comes i + 1
    assert Fixed(table).loss(torch.tensor([[0, 1, 2, 3], [2, 3, 4, 5]])).item() == pytest.approx(0)
    assert Fixed(table).loss(torch.tensor([[3, 2, 1, 0]])).item() == pytest.approx(100)


def test_the_loss_is_the_mean_of_the_chosen_log_probabilities(model):
    batch = torch.randint(V, (3, 8), generator=torch.Generator().manual_seed(1))
    total = 0.0
    for row in batch:
        logits_tv = model.logits(row[None, :-1])[0]
        for position in range(7):
            total -= float(logits_tv[position].log_softmax(-1)[row[position + 1]].detach())
    assert model.loss(batch).item() == pytest.approx(total / 21, rel=1e-5)


def test_counts_weigh_batches_of_different_sizes(model):
    """The rows of a batch cut into two batches of different sizes: weighed by their counts, the same loss."""
    batch = torch.randint(V, (5, 8), generator=torch.Generator().manual_seed(6))
    cut = [batch[:2], batch[2:]]
    assert [model.count(part) for part in cut] == [14, 21]
    weighed = sum(model.loss(part) * model.count(part) for part in cut) / model.count(batch)
    assert_close(weighed, model.loss(batch))


def test_the_bits_are_those_of_each_document_by_itself(model):
    nats = 0.0
    for text in TEXTS:
        batch = torch.tensor([[STOP, *TOKENIZER.encode(text), STOP]])
        nats += float(model.loss(batch).detach()) * (len(text) + 1)
    want = nats / math.log(2) / sum(map(len, TEXTS))
    for batch_tokens in (1, 10, 10_000):  # however many are scored side by side
        got = bits_per_character(model, TEXTS, TOKENIZER, STOP, batch_tokens=batch_tokens)
        assert got == pytest.approx(want, rel=1e-5)
    assert bits_per_character(model, TEXTS[::-1], TOKENIZER, STOP) == pytest.approx(want, rel=1e-5)


def test_measuring_leaves_the_mode_alone(model):
    for mode in (True, False):
        model.train(mode)
        bits_per_character(model, TEXTS, TOKENIZER, STOP)
        assert model.training is mode


def test_a_tokenizer_that_forgets_cannot_be_measured():
    words = WordTokenizer.train("a cab a bad")
    model = Fixed(torch.zeros(9, 9))
    with pytest.raises(ValueError, match=r"documents\[1\]='a cad'.*does not come back.*CharTokenizer"):
        bits_per_character(model, ["a cab", "a cad"], words, end=0)
    with pytest.raises(ValueError, match=r"documents=\[\] holds no text"):
        bits_per_character(model, [], words, end=0)


def test_steps_are_the_logits_position_by_position(model):
    tokens_bt = torch.randint(V, (2, 9), generator=torch.Generator().manual_seed(2))
    together, state = model.logits(tokens_bt), None
    for position in range(9):
        logits_bv, state = model.step(tokens_bt[:, position], state)
        assert_close(logits_bv, together[:, position])


def test_sampling_draws_what_the_logits_of_the_whole_text_would():
    model = MODELS["lstm"]()
    drawn = model.sample([STOP, 1], 12, generator=torch.Generator().manual_seed(3))
    again, generator = [STOP, 1], torch.Generator().manual_seed(3)
    for _ in range(12):
        p_v = model.logits(torch.tensor([again]))[0, -1].detach().double().softmax(-1)
        u = torch.rand(1, dtype=torch.float64, generator=generator)
        again.append(int(torch.searchsorted(p_v.cumsum(0), u)))
    assert drawn == again[2:] and len(drawn) == 12


def test_sampling_stops_at_the_end_and_leaves_it_out():
    table = torch.full((V, V), -50.0)
    table[torch.arange(V), (torch.arange(V) + 1) % V] = 50.0
    model = Fixed(table)
    assert model.sample([0], 100, end=4, temperature=0) == [1, 2, 3]
    assert model.sample([0], 2, end=4, temperature=0) == [1, 2]
    assert len(model.sample([0], 20, generator=torch.Generator().manual_seed(0))) == 20
    assert model.sample([0], 0) == []
    with pytest.raises(ValueError, match=r"prompt=\[\] holds no token"):
        model.sample([], 5)


@pytest.mark.no_promises  # tokens with one axis break the promise of the name tokens_bt, which is what is tested
@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        (torch.tensor([[0, 1], [2, V]]), rf"tokens\[1, 1\]={V} is not in the vocabulary of {V}; tokens go from 0 to"),
        (torch.tensor([[0, -1]]), r"tokens\[0, 1\]=-1 is not in the vocabulary"),
        (torch.zeros(0, 3, dtype=torch.int64), r"tokens has shape \(0, 3\)"),
        (torch.zeros(3, 0, dtype=torch.int64), r"tokens has shape \(3, 0\)"),
        (torch.zeros(3, dtype=torch.int64), r"tokens has shape \(3,\)"),
        (torch.zeros(2, 3), r"dtype=torch.float32; token ids are int64"),
    ],
)
def test_what_is_no_batch_is_refused(model, tokens, says):
    for use in (model.logits, model.loss):
        with pytest.raises(ValueError, match=says):
            use(tokens)


def test_a_batch_without_a_target_is_refused(model):
    model.logits(torch.tensor([[1]]))
    with pytest.raises(ValueError, match=r"tokens has shape \(1, 1\); the rule is \(b, t \+ 1\), .* such as \(1, 2\)"):
        model.loss(torch.tensor([[1]]))


def test_the_last_target_is_checked_too(model):
    with pytest.raises(ValueError, match=rf"tokens\[0, 2\]={V} "):
        model.loss(torch.tensor([[0, 1, V]]))


def test_check_tokens_lets_the_whole_vocabulary_pass():
    check_tokens(torch.arange(V)[None], V, columns=2)
