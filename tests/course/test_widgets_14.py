"""The explorer of chapter 14: its rows are what the routers chose, and its sentence says how even the load is."""

import pytest
import torch

from minillm.course.mixed_reading import CONFIGS, effective_experts, mixtures, new_reader
from minillm.course.widgets_14 import YOURS, RouterExplorer


def readers():
    """Two readers at two moments; the later one of the second sends all of block 1 to two experts."""
    even, tilted = new_reader(CONFIGS["experts, no balance"]), new_reader(CONFIGS["experts, no balance"], seed=1)
    late = new_reader(CONFIGS["experts, no balance"], seed=1)
    with torch.no_grad():
        late.blocks[0].mlp.router.weight.zero_()
    return {"a": {0: even, 9: even}, "b": {0: tilted, 9: late}}


def texts():
    g = torch.Generator().manual_seed(0)
    return {"news": torch.randint(1024, (3, 16), generator=g), "sums": torch.randint(1024, (2, 16), generator=g)}


def encode(text):
    return [ord(letter) % 1024 for letter in text]


@pytest.mark.parametrize("block", [1, 2])
def test_the_rows_are_what_the_routers_chose(block):
    explorer, given = RouterExplorer(readers(), texts(), encode, name="b", steps=0, block=block), readers()
    model = given["b"][0].eval()
    for kind, row_e in explorer.shares().items():
        model(texts()[kind])
        chosen = mixtures(model)[block - 1].routing.chosen_nk
        assert chosen.shape == (texts()[kind].numel(), 2)
        assert torch.allclose(row_e, torch.bincount(chosen.flatten(), minlength=8) / chosen.numel())
        assert float(row_e.sum()) == pytest.approx(1)


def test_the_sentence_follows_the_controls():
    explorer = RouterExplorer(readers(), texts(), encode, name="b", block=1)
    assert explorer.sentence == "Block 1 of “b” after 9 steps: over all kinds of text the load is collapsed."
    explorer.steps.value = "0"
    assert "after 0 steps" in explorer.sentence and "nearly even" in explorer.sentence
    explorer.block.value, explorer.name.value = "2", "a"
    assert explorer.sentence.startswith("Block 2 of “a”")
    assert "image/png" in explorer._repr_mimebundle_()


def test_typed_text_is_a_row_more_and_no_part_of_the_load():
    explorer = RouterExplorer(readers(), {"news": texts()["news"]}, encode, name="a", block=1)
    before = explorer.sentence
    explorer.text.value = "oooo"  # all to two experts
    shares = explorer.shares()
    assert list(shares) == ["news", YOURS] and int((shares[YOURS] > 0).sum()) == 2
    assert "nearly even" in before
    assert explorer.sentence == before + f" Most of your text goes to expert {int(shares[YOURS].argmax())}."
    explorer.text.value = "x" * 5000  # longer than any reader reads
    assert len(explorer.shares()) == 2


def test_readers_after_other_steps_are_refused():
    one = readers()
    with pytest.raises(ValueError, match="all after the same steps"):
        RouterExplorer({"a": one["a"], "b": {0: one["b"][0]}}, texts(), encode)
    with pytest.raises(ValueError, match="0 texts"):
        RouterExplorer(one, {}, encode)


def test_effective_experts_are_between_one_and_all():
    assert effective_experts(torch.full((6,), 1 / 6)) == pytest.approx(6)
    assert effective_experts(torch.tensor([0.0, 1.0, 0.0])) == pytest.approx(1)
    assert effective_experts(torch.tensor([0.5, 0.25, 0.25])) == pytest.approx(2**1.5)
