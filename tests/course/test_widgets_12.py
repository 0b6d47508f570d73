"""The explorer of chapter 12: operations as the library counts them, bytes by hand, a roof with its bend."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minillm.course.widgets_12 import RooflineExplorer, block_parts, share_of_rate
from minillm.transformer.costs import forward_flops
from minillm.transformer.decoder import gpt2


@pytest.mark.parametrize(("width", "tokens", "context"), [(128, 96, 32), (256, 40, 20)])
def test_the_products_are_those_of_the_library(width, tokens, context):
    parts = block_parts(width, tokens, context, size=4)
    config = gpt2(vocabulary=1, context=context, n_layer=1, n_head=width // 64, d_model=width)
    counted = forward_flops(config, context, batch=tokens // context) - 2 * tokens * width  # without the one logit
    heads = width // 64
    softmax = 5 * tokens * context * heads
    assert (
        parts["MLP"][0] + parts["queries, keys, values, out"][0] + parts["attention, in tiles"][0] == counted + softmax
    )


def test_bytes_by_hand():
    parts = block_parts(width=64, tokens=8, context=4, size=2)
    assert parts["norm"] == (4 * 512, 2 * 1024)
    assert parts["softmax alone"] == (5 * 32, 2 * 64)  # one head, 8 queries, 4 keys
    assert parts["MLP"][1] == 2 * (2 * (8 * 64 + 64 * 256 + 8 * 256))
    assert parts["attention, written out"][1] - parts["attention, in tiles"][1] == 2 * 4 * 32


def test_operations_of_a_product_are_what_torch_counts():
    with FlopCounterMode(display=False) as counter:
        torch.randn(3, 5) @ torch.randn(5, 7)
    assert counter.get_total_flops() == 2 * 3 * 5 * 7


def test_the_roof_bends_at_the_balance():
    assert share_of_rate(40, 10, balance=4) == 1.0 == share_of_rate(90, 10, balance=4)
    assert share_of_rate(10, 10, balance=4) == 0.25


def test_the_sentence_follows_the_controls():
    explorer = RooflineExplorer()
    assert "memory holds back attention, written out, softmax alone, norm; arithmetic limits MLP" in explorer.sentence
    explorer.balance.value = 295
    assert "nothing waits for arithmetic" in explorer.sentence
    explorer.bf16.value = True
    assert "The norm can reach 0.3% of the rate" in explorer.sentence
    explorer.balance.value, explorer.tokens.value = 5, 1
    assert "nothing waits for arithmetic" in explorer.sentence, "one token at a time waits for memory everywhere"
    assert "image/png" in explorer._repr_mimebundle_()
