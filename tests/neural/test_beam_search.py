"""Beam search against greedy search, against all sequences there are, and against itself one row at a time."""

import itertools
import math

import pytest
import torch

from minillm.neural.beam_search import beam_search, length_normaliser

V, BEGIN, END, MAX = 4, 0, 3, 4  # 3 tokens that go on: 3⁴ that never end, and 1 + 3 + 9 + 27 that do


class Chain:
    """A model whose next token depends on the whole past of the row: logits drawn anew for every prefix."""

    def __init__(self, seed, v=V, sharpness=2.0):
        self.seed, self.v, self.sharpness, self.fed = seed, v, sharpness, []

    def logits(self, prefix):
        code = self.seed
        for token in prefix:
            code = (code * 31 + token + 1) % 1_000_003
        return torch.randn(self.v, generator=torch.Generator().manual_seed(code), dtype=torch.float64) * self.sharpness

    def step(self, token_n, state):
        self.fed.append(len(token_n))
        state = [(*prefix, token) for prefix, token in zip(state, token_n.tolist(), strict=True)]
        return torch.stack([self.logits(prefix) for prefix in state]), state

    @staticmethod
    def select(state, rows):
        return [state[row] for row in rows.tolist()]

    def search(self, sources=((0,),), **changes):
        """Each source is a prefix of its own, so that rows differ from the start."""
        settings = {"begin": BEGIN, "end": END, "max_tokens": MAX, "beam": 4, **changes}
        return beam_search(self.step, self.select, list(sources), len(sources), **settings)

    def logprob(self, source, tokens):
        total, prefix = 0.0, (*source, BEGIN)
        for token in tokens:
            total += float(self.logits(prefix).log_softmax(-1)[token])
            prefix = (*prefix, token)
        return total


def all_that_end(model, source=(0,)):
    """Every sequence of up to MAX tokens whose last is END, with its log P, by brute force."""
    bodies = [body for n in range(MAX) for body in itertools.product(range(V - 1), repeat=n)]
    return {body: model.logprob(source, (*body, END)) for body in bodies}


def greedy(model, source=(0,), max_tokens=MAX):
    prefix, tokens = (*source, BEGIN), []
    while len(tokens) < max_tokens:
        token = int(model.logits(prefix).argmax())
        if token == END:
            return tokens, True
        tokens.append(token)
        prefix = (*prefix, token)
    return tokens, False


@pytest.mark.parametrize("seed", range(30))
def test_a_beam_of_1_is_greedy_search(seed):
    model = Chain(seed)
    ((best,),) = model.search(beam=1, max_tokens=7)
    assert (best.tokens, best.ended) == greedy(model, max_tokens=7)


def test_both_endings_of_greedy_search_were_seen():
    assert {greedy(Chain(seed), max_tokens=7)[1] for seed in range(30)} == {True, False}


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(8))
def test_a_wide_enough_beam_finds_the_best_of_all_sequences(seed, penalty):
    model = Chain(seed)
    everything = all_that_end(model)
    found = model.search(beam=200, length_penalty=penalty)[0]
    ended = {tuple(one.tokens): one.logprob for one in found if one.ended}
    assert ended.keys() == everything.keys()
    for body, logprob in everything.items():
        assert ended[body] == pytest.approx(logprob, rel=1e-6)
    lp = lambda body: everything[body] / ((5 + len(body) + 1) / 6) ** penalty
    assert tuple(found[0].tokens) == max(everything, key=lp)
    assert found[0].score == pytest.approx(lp(tuple(found[0].tokens)), rel=1e-6)
    assert sum(not one.ended for one in found) == (V - 1) ** MAX  # and those that were cut off, last of all
    assert [one.ended for one in found] == sorted((one.ended for one in found), reverse=True)


def test_the_penalty_changes_what_is_best():
    best = {p: [len(Chain(seed).search(beam=200, length_penalty=p)[0][0].tokens) for seed in range(8)] for p in (0, 3)}
    assert sum(best[3]) > sum(best[0])


@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_many_rows_at_once_are_each_row_by_itself(beam):
    model, sources = Chain(5), [(9,), (8, 1), (7,), (6, 2, 2), (5,)]
    together = model.search(sources, beam=beam, max_tokens=6)
    alone = [model.search([source], beam=beam, max_tokens=6)[0] for source in sources]
    assert together == alone
    assert len({len(row[0].tokens) for row in together}) > 1  # rows ended at different times


@pytest.mark.parametrize("seed", range(10))
def test_what_is_found_is_sound(seed):
    model = Chain(seed)
    for beam in (2, 3, 6):
        found = model.search(beam=beam, max_tokens=5)[0]
        assert 1 <= len(found) <= beam
        assert len({(tuple(one.tokens), one.ended) for one in found}) == len(found)  # nothing twice
        assert [one.score for one in found if one.ended] == sorted((o.score for o in found if o.ended), reverse=True)
        for one in found:
            assert END not in one.tokens and len(one.tokens) + one.ended <= 5
            whole = (*one.tokens, END) if one.ended else tuple(one.tokens)
            assert one.logprob == pytest.approx(model.logprob((0,), whole), rel=1e-6)
            assert one.ended or len(one.tokens) == 5
            assert one.score == pytest.approx(one.logprob / length_normaliser(len(whole), 0.6))


def test_a_sequence_that_ended_takes_its_place_with_it_and_is_never_carried_on():
    """By hand. Beam 2: "end" at once (0.4) leaves one place, which only "1" (0.35) may use."""
    after = {
        (0,): [0.25, 0.35, 0.4],
        (0, 1): [0.1, 0.2, 0.7],
        (0, 0): [0.0, 0.0, 1.0],  # would end with 0.25, more than 0.35 · 0.7, were it still there
    }

    def step(token_n, state):
        state = [(*prefix, token) for prefix, token in zip(state, token_n.tolist(), strict=True)]
        return torch.tensor([after.get(prefix, [1 / 3] * 3) for prefix in state]).log(), state

    found = beam_search(step, Chain.select, [()], 1, begin=0, end=2, max_tokens=3, beam=2, length_penalty=0.0)[0]
    assert [(one.tokens, round(math.exp(one.logprob), 3)) for one in found] == [([], 0.4), ([1], 0.245)]


def test_rows_that_are_done_are_not_computed_any_more():
    model = Chain(5)
    together = model.search([(9,), (8, 1), (7,), (6, 2, 2), (5,)], beam=2, max_tokens=6)
    steps = [max(len(one.tokens) + one.ended for one in row) for row in together]
    assert model.fed == [2 * sum(done > i for done in steps) for i in range(max(steps))]


def test_a_token_that_cannot_be_is_never_chosen():
    """Only one sequence is possible, however wide the beam."""

    def step(token_n, state):
        logits = torch.full((len(token_n), V), -math.inf)
        logits[torch.arange(len(token_n)), (token_n + 1).clamp(max=END)] = 0.0
        return logits, state

    found = beam_search(step, lambda state, rows: state, None, 2, begin=0, end=END, max_tokens=9, beam=5)
    assert [[one.tokens for one in row] for row in found] == [[[1, 2]], [[1, 2]]]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"beam": 0}, "beam=0 must be a whole number of at least 1; beam=4 works"),
        ({"max_tokens": 0}, "max_tokens=0 must be"),
        ({"max_tokens": 2.5}, "max_tokens=2.5 must be"),
        ({"length_penalty": -1.0}, "length_penalty=-1.0 must be 0"),
        ({"length_penalty": math.nan}, "length_penalty=nan must be 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        Chain(0).search(**changes)


def test_a_model_that_has_diverged_is_refused():
    with pytest.raises(ValueError, match="logits has NaN in it"):
        beam_search(lambda token_n, state: (torch.full((len(token_n), V), math.nan), state), lambda state, rows: state,
                    None, 1, begin=0, end=1, max_tokens=2)  # fmt: skip
