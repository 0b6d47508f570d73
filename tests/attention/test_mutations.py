"""Planted bugs: each is put into the library's own source, and the test that is named beside it must turn red.

A row says what is planted where (text that stands in the file exactly once, and what replaces it) and which test sees
it. The test is run three times: it holds, it fails with the bug, it holds again.
"""

import importlib
import importlib.util
import inspect
import itertools
import types
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from decoder_kinds import KINDS, lively

TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Planted:
    """One bug, put into one file of minillm, and the test that must see it."""

    name: str  # of the bug; after a colon, which of several ways to make it
    file: str  # under minillm/, without .py
    changes: list[tuple[str, str]]  # old text, new text
    seen_by: str  # "file::test" under tests/, without .py
    arguments: dict[str, Any] = field(default_factory=dict)  # those that pytest would fill in

    def __str__(self):
        return self.name


# the ten that issue 4 asks for; a name may have several rows, one for each way to make the mistake
ASKED = [
    "no scaling",
    "no mask",
    "upside-down mask",
    "off-by-one mask",
    "softmax over queries",
    "k and v swapped",
    "heads merged in the wrong order",
    "positions added after the norm",
    "padding attended to",
    "label smoothing on padding",
]

DOT, MASKS, HEADS = "attention/dot_product", "attention/masks", "attention/multihead"
PLACES, CACHE, TILED = "attention/positions", "attention/cache", "attention/tiled"
BLOCK, PAIR, STACK = "transformer/block", "transformer/encoder_decoder", "transformer/decoder"

PAST = "attention/test_dot_product::test_the_future_cannot_change_the_past"
TWINS = "attention/test_dot_product::test_the_twins_agree_in_values_and_gradients"
TORCH = "attention/test_multihead::test_it_is_torchs_attention_under_copied_weights"
QWEN = "attention/test_multihead::test_it_is_qwens_attention_under_copied_weights"
CACHED = "attention/test_multihead::test_a_cache_equals_reading_all_again"
ENCODER = "transformer/test_block::test_it_is_torchs_encoder_layer_under_copied_weights"
DECODER = "transformer/test_block::test_it_is_torchs_decoder_layer_under_copied_weights"
SMEAR = "transformer/test_decoder::test_smear_adds_a_share_of_the_embedding_before"
ZERO = "transformer/test_decoder::test_blocks_that_begin_at_zero_leave_the_stream_as_it_is"
MACHINE = "transformer/test_encoder_decoder::test_it_is_torchs_transformer_with_the_same_weights"

PLAIN, FUSED = {"attention": "attend"}, {"attention": "attend_fused"}  # names, looked up in the test's file
TORCHS = {"fused": True, "cross": False, "masked": "nothing"}

# fmt: off
BUGS = [
    Planted("no scaling", DOT,
            [("q_bhtk.shape[-1] ** -0.5 if scale is None", "1.0 if scale is None")],
            "attention/test_dot_product::test_scores_are_divided_by_the_root_of_the_width"),
    Planted("no scaling: by the width of the model instead, as if there were one head", HEADS,
            [("bias, self.config.scale, causal, dropout)", "bias, self.config.d_model**-0.5, causal, dropout)")],
            TORCH, TORCHS),
    Planted("no mask: in the plain twin", DOT,
            [("may_look = allowed(q_bhtk, k_bhsk, may_look, bias, causal)", "may_look = None")],
            PAST, PLAIN | {"t": 5, "cut": 4}),
    Planted("no mask: in the kernel", DOT,
            [("is_causal=by_flag", "is_causal=False")],
            PAST, FUSED | {"t": 7, "cut": 4}),
    Planted("no mask: forgotten on the way to both twins", HEADS,
            [("attention(q_bhtk, key, value, may_look, bias", "attention(q_bhtk, key, value, None, bias")],
            TORCH, TORCHS | {"masked": "causal"}),
    Planted("upside-down mask", MASKS,
            [("return _behind(t, s, device) >= 0", "return _behind(t, s, device) <= 0")],
            PAST, PLAIN | {"t": 7, "cut": 4}),
    Planted("upside-down mask: True = may not look", DOT,
            [("score_bhts.masked_fill(~may_look, torch", "score_bhts.masked_fill(may_look, torch"),
             ("masked_fill(~may_look, 0.0)", "masked_fill(may_look, 0.0)")],
            TWINS, {"heads": 6, "t": 5, "causal": True}),
    Planted("off-by-one mask: one key too many", MASKS,
            [("return _behind(t, s, device) >= 0", "return _behind(t, s, device) >= -1")],
            PAST, PLAIN | {"t": 7, "cut": 4}),
    Planted("off-by-one mask: one key too few, nobody sees itself", MASKS,
            [("return _behind(t, s, device) >= 0", "return _behind(t, s, device) > 0")],
            PAST, PLAIN | {"t": 7, "cut": 4}),
    Planted("off-by-one mask: with a cache, by as many tokens as it holds", MASKS,
            [("return place[s - t :, None] - place", "return place[:t, None] - place")],
            CACHED, {"fused": True, "n_kv_head": 6, "sizes": [3, 1, 2, 1], "place": "none"}),
    Planted("off-by-one mask: of a window", MASKS,
            [("(behind < window)", "(behind <= window)")],
            "attention/test_masks::test_limits"),
    Planted("softmax over queries: without a mask", DOT,
            [("return score_bhts.softmax(dim=-1)  #", "return score_bhts.softmax(dim=-2)  #")],
            "attention/test_dot_product::test_a_zero_query_gets_the_mean", PLAIN),
    Planted("softmax over queries: with a mask", DOT,
            [("score_bhts.softmax(dim=-1).masked_fill", "score_bhts.softmax(dim=-2).masked_fill")],
            "attention/test_dot_product::test_each_query_spends_one_unit"),
    Planted("k and v swapped", HEADS,
            [("attention(q_bhtk, key, value,", "attention(q_bhtk, value, key,")],
            TORCH, TORCHS),
    Planted("k and v swapped: in the cache", CACHE,
            [("key[:, :, begin:end] = k_bhsk", "key[:, :, begin:end] = v_bhsk"),
             ("value[:, :, begin:end] = v_bhsk", "value[:, :, begin:end] = k_bhsk")],
            CACHED, {"fused": True, "n_kv_head": 2, "sizes": [1] * 7, "place": "none"}),
    Planted("heads merged in the wrong order: as if time were inside the heads", HEADS,
            [("mixed_bhtk.transpose(1, 2).flatten(2)", "mixed_bhtk.reshape(x_btd.shape[0], x_btd.shape[1], -1)")],
            TORCH, TORCHS),
    Planted("heads merged in the wrong order: the widths of all heads in turn, not head after head", HEADS,
            [("mixed_bhtk.transpose(1, 2).flatten(2)", "mixed_bhtk.permute(0, 2, 3, 1).flatten(2)")],
            "attention/test_multihead::test_each_head_is_an_attention_of_its_own"),
    Planted("heads merged in the wrong order: shared keys dealt out in turn, not to neighbours", DOT,
            [("b g s k -> b (g share) s k", "b g s k -> b (share g) s k")],
            "attention/test_dot_product::test_shared_heads_are_repeated_heads", PLAIN | {"t": 5}),
    Planted("positions added after the norm: of the encoder, so that no block has seen them", PAIR,
            [("self.embedding(tokens_bt) + self.positions(place_t)", "self.embedding(tokens_bt)"),
             ("return self.source_norm(self._source_stream(source_bs, may_look)[-1])",
              "return self.source_norm(self._source_stream(source_bs, may_look)[-1])"
              " + self.positions(torch.arange(source_bs.shape[1]))")],
            MACHINE, {"norm_first": True, "fused": True}),
    Planted("positions added after the norm: RoPE the other way round: a norm with weights undoes the turn", HEADS,
            [("if norm is not None:", "if False:"),
             ("return x_bhtk if rotation is None else rotation.rotate(x_bhtk)",
              "x_bhtk = x_bhtk if rotation is None else rotation.rotate(x_bhtk)\n"
              "        return x_bhtk if norm is None else norm(x_bhtk)")],
            QWEN, {"fused": True}),
    Planted("padding attended to: by one token", MASKS,
            [("(place < length_b[:, None])", "(place <= length_b[:, None])")],
            "attention/test_multihead::test_a_batch_is_its_rows", {"fused": True}),
    Planted("padding attended to: by the decoder, in the source", PAIR,
            [("source_bsd, source_may_look=may_look, causal=True", "source_bsd, causal=True")],
            "transformer/test_encoder_decoder::test_every_source_token_is_in_view_and_padding_is_not",
            {"norm_first": True}),
    Planted("padding attended to: by the encoder", PAIR,
            [("block(stream[-1], may_look=may_look, fused", "block(stream[-1], fused")],
            "transformer/test_encoder_decoder::test_a_pair_has_the_same_loss_alone_and_beside_longer_ones",
            {"norm_first": True}),
    Planted("label smoothing on padding: in its uniform part", PAIR,
            [("return F.cross_entropy(logits_btv[asked], batch.target_bt[:, 1:][asked], label_smoothing=smoothing)",
              "nats = F.cross_entropy(logits_btv[asked], batch.target_bt[:, 1:][asked])\n"
              "        return (1 - smoothing) * nats - smoothing * logits_btv.log_softmax(-1).mean()")],
            "transformer/test_encoder_decoder::"
            "test_smoothed_loss_is_the_cross_entropy_of_the_smoothed_truth_and_only_while_training",
            {"smoothing": 0.1}),
    Planted("label smoothing on padding: padding is a target like any other", PAIR,
            [("F.cross_entropy(logits_btv[asked], batch.target_bt[:, 1:][asked], label",
              "F.cross_entropy(logits_btv.flatten(0, 1), batch.target_bt[:, 1:].flatten(), label")],
            "transformer/test_encoder_decoder::test_padding_is_never_scored_nor_smoothed"),
    # and some that nobody asked for
    Planted("NaN where nobody may be seen", DOT,
            [("torch.finfo(score_bhts.dtype).min", "-math.inf"),
             (".softmax(dim=-1).masked_fill(~may_look, 0.0)", ".softmax(dim=-1)")],
            "attention/test_dot_product::test_a_row_that_may_look_nowhere_is_zero_and_has_finite_gradients",
            PLAIN | {"dtype": "float32", "with_bias": False, "heads": 6, "t": 5}),
    Planted("the mean where nobody may be seen", DOT,
            [(".softmax(dim=-1).masked_fill(~may_look, 0.0)", ".softmax(dim=-1)")],
            "attention/test_dot_product::test_a_row_that_may_look_nowhere_is_zero_and_has_finite_gradients",
            PLAIN | {"dtype": "float32", "with_bias": False, "heads": 6, "t": 5}),
    Planted("a mask of each head on the wrong head", DOT,
            [("mask.shape[:-3], g, h // g, mask.shape[-1])",
              "mask.shape[:-3], h // g, g, mask.shape[-1]).transpose(-3, -2)")],
            TWINS, {"heads": 3, "t": 1, "causal": False}),
    Planted("the bias forgotten by one twin", DOT,
            [("score_bhts = score_bhts + bias", "score_bhts = score_bhts + 0 * bias")],
            TWINS, {"heads": 6, "t": 5, "causal": False}),
    Planted("a tile's earlier sums not shrunk", TILED,
            [("mixed = kept * mixed + einsum", "mixed = mixed + einsum")],
            "attention/test_tiled::test_tiles_agree_with_the_whole", {"tile": 3, "heads": 6}),
    Planted("pairs turned the other way round in keys and queries alike", PLACES,
            [("torch.cat((-sin, sin), dim=-1)", "torch.cat((sin, -sin), dim=-1)")],
            "attention/test_positions::test_rope_agrees_with_the_transformers_package"),
    Planted("neighbours turned, not halves", PLACES,
            [("torch.cat((cos, cos), dim=-1)", "cos.repeat_interleave(2, dim=-1)")],
            "attention/test_positions::test_rope_turns_and_nothing_else"),
    Planted("positions that start anew at each step", HEADS,
            [("start = 0 if cache is None else cache.length", "start = 0")],
            CACHED, {"fused": True, "n_kv_head": 2, "sizes": [3, 1, 2, 1], "place": "rope"}),
    Planted("values turned too", HEADS,
            [("self._heads(self.value(x_bsd))", "self._heads(self.value(x_bsd), None, rotation)")],
            "attention/test_multihead::test_rope_turns_queries_and_keys_but_not_values"),
    Planted("sine and cosine side by side, not in turn", PLACES,
            [("torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)",
              "torch.cat((angle.sin(), angle.cos()), dim=-1)")],
            "attention/test_positions::test_the_table_of_2017_by_its_formula"),
    Planted("slopes that reward distance", PLACES,
            [("return -slope[:, None, None]", "return slope[:, None, None]")],
            "attention/test_positions::test_alibi_falls_in_a_straight_line_with_distance"),
    Planted("a window that forgets one token too early", CACHE,
            [("max(0, begin - self.window + 1)", "max(0, begin - self.window + 2)")],
            "attention/test_cache::test_a_window_keeps_what_may_be_looked_at",
            {"window": 4, "capacity": 6, "sizes": [1] * 23}),
    Planted("hypotheses that keep each other's values", CACHE,
            [("key, value = (x[rows] for x in self.contents())",
              "key, value = self.contents()[0][rows], self.contents()[1]")],
            "attention/test_cache::test_select_takes_rows_along", {"rows": [2, 0, 0]}),
    Planted("no residual", BLOCK,
            [("return x_btd + change_btd if self.config", "return change_btd if self.config")],
            "transformer/test_block::test_pre_norm_leaves_the_stream_alone"),
    Planted("pre-norm and post-norm exchanged", BLOCK,
            [("part(norm(x_btd) if self.config.norm_first else x_btd)",
              "part(x_btd if self.config.norm_first else norm(x_btd))")],
            ENCODER, {"norm_first": True, "activation": "relu", "fused": True}),
    Planted("the source's mask on the target", BLOCK,
            [("source_bsd=source_bsd, may_look=source_may_look,", "source_bsd=source_bsd, may_look=may_look,")],
            DECODER, {"norm_first": True, "activation": "gelu", "fused": True}),
    Planted("the sample's variance, as if a token were drawn", BLOCK,
            [("(centred.square().mean(dim=-1, keepdim=True)", "(x.var(dim=-1, keepdim=True)")],
            "transformer/test_block::test_layer_norm_is_torchs", {"bias": True}),
    Planted("the gate on the wrong side", BLOCK,
            [("F.silu(self.gate(x_btd)) * self.up(x_btd)", "self.gate(x_btd) * F.silu(self.up(x_btd))")],
            "transformer/test_block::test_swiglu_by_its_formula"),
    Planted("smear: a share of itself", STACK,
            [("self.smear * before(x_btd, cache) * follows", "self.smear * x_btd * follows")], SMEAR),
    Planted("smear: a share of the one after, which is the answer", BLOCK,
            [("F.pad(x_btd, (0, 0, 1, -1))", "F.pad(x_btd, (0, 0, -1, 1))")], SMEAR),
    Planted("smear: the first token takes the last one's", BLOCK,
            [("F.pad(x_btd, (0, 0, 1, -1))", "x_btd.roll(1, dims=1)")], SMEAR),
    Planted("smear: forgotten where a cache is read", BLOCK,
            [("return F.pad(seen[:, 0], (0, 0, 1, 0))[:, -t - 1 : -1]", "return F.pad(x_btd, (0, 0, 1, -1))")],
            "transformer/test_generate::test_the_cache_gives_the_same_logits_at_every_step", {"model": "smear"}),
    Planted("smear: from one text of a packed row into the next", STACK,
            [("follows = 1 if given is None else (given > 0)[..., None]", "follows = 1")],
            "adaptation/test_sft::test_a_packed_batch_is_the_weighted_sum_of_its_examples", {"kind": "smear"}),
    Planted("zero_out: ignored", STACK,
            [("small = 0.0 if self.config.zero_out else", "small =")], ZERO),
    Planted("zero_out: of all that is in a block, so that it never learns", STACK,
            [('adds = name.endswith(("attention.out.weight", ".down.weight"))', 'adds = "blocks." in name')], ZERO),
]
# fmt: on


def functions_of(module):
    """Every function and method that is written in the module, by its qualified name."""
    found = {}
    for owner in (
        module,
        *(c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__),
    ):
        for value in vars(owner).values():
            function = inspect.unwrap(value) if callable(value) else None
            if isinstance(function, types.FunctionType) and function.__module__ == module.__name__:
                found[function.__qualname__] = function
    return found


@contextmanager
def planted(file, changes):
    """Run with a change in a file of minillm: every function there gets the code of the changed source."""
    module = importlib.import_module(f"minillm.{file.replace('/', '.')}")
    source = inspect.getsource(module)
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {file}.py: mend the row"
        source = source.replace(old, new)
    changed = types.ModuleType(module.__name__)
    exec(compile(source, module.__file__, "exec"), vars(changed))
    new_code = {name: function.__code__ for name, function in functions_of(changed).items()}
    functions = functions_of(module)
    old_code = {name: function.__code__ for name, function in functions.items()}
    assert new_code.keys() == old_code.keys()
    try:
        for name, function in functions.items():
            function.__code__ = new_code[name]
        yield
    finally:
        for name, function in functions.items():
            function.__code__ = old_code[name]


FILES: dict[str, types.ModuleType] = {}


def the_test(bug):
    """The test that a row names, ready to be called."""
    file, name = bug.seen_by.split("::")
    if file not in FILES:
        spec = importlib.util.spec_from_file_location(f"red_{Path(file).name}", TESTS / f"{file}.py")
        assert spec is not None and spec.loader is not None
        FILES[file] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(FILES[file])
    test, arguments = getattr(FILES[file], name), dict(bug.arguments)
    for key, owner in (("attention", FILES[file]), ("dtype", importlib.import_module("torch"))):
        if key in arguments:
            arguments[key] = getattr(owner, arguments[key])
    if "model" in arguments:
        arguments["model"] = lively(KINDS[arguments["model"]])
    return lambda: test(**arguments)


@pytest.mark.no_promises  # planted bugs break them too, and must be seen without
@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_each_planted_bug_is_seen(bug):
    test = the_test(bug)
    test()
    with planted(bug.file, bug.changes), pytest.raises(AssertionError):
        test()
    test()


def test_the_list_holds_what_was_asked_for():
    names = {bug.name.partition(":")[0] for bug in BUGS}
    assert [name for name in ASKED if name not in names] == []
    assert len({bug.name for bug in BUGS}) == len(BUGS)


@pytest.mark.no_promises
def test_planting_alone_turns_no_test_red():
    """Each file's code exchanged for the same code, all its tests on the list still hold: red comes from the bug."""
    for file, bugs in itertools.groupby(sorted(BUGS, key=lambda bug: bug.file), key=lambda bug: bug.file):
        with planted(file, []):
            for bug in bugs:
                the_test(bug)()
