"""The weights of the transformers package's BERT in our encoder, for tests that compare the two."""

import torch
import transformers

V, D, H, F, N_LAYER, CONTEXT = 29, 12, 4, 20, 2, 15


@torch.no_grad()
def shaken(model, seed=0):
    """All parameters drawn again, norms and biases too, so that none can hide behind a 0 or a 1."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.normal_(0.3, 0.4, generator=generator)
    return model.eval()


BLOCK = {
    "attention.query": "attention.self.query", "attention.key": "attention.self.key",
    "attention.value": "attention.self.value", "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm", "mlp.up": "intermediate.dense", "mlp.down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}  # fmt: skip
OURS = {
    "token": "embeddings.word_embeddings", "position": "embeddings.position_embeddings",
    "segment": "embeddings.token_type_embeddings", "embedding_norm": "embeddings.LayerNorm", "pooler": "pooler.dense",
} | {f"blocks.{i}.{o}": f"encoder.layer.{i}.{t}" for i in range(N_LAYER) for o, t in BLOCK.items()}  # fmt: skip
HEAD = {
    "transform": "cls.predictions.transform.dense", "transform_norm": "cls.predictions.transform.LayerNorm",
    "next_sentence": "cls.seq_relationship",
}  # fmt: skip


def copy_weights(ours, theirs, names):
    """Every tensor of ours from theirs; `names` map module names."""
    source = theirs.state_dict()
    copied = {f"{o}.{end}": source[f"{t}.{end}"] for o, t in names.items() for end in ("weight", "bias")
              if f"{t}.{end}" in source}  # fmt: skip
    bias = [source[key] for key in ("cls.predictions.bias", "predictions.bias") if key in source]
    ours.load_state_dict(copied | ({"token_bias": bias[0]} if bias else {}))
    return ours.eval()


def bert_config(**changes):
    """A tiny BERT; every size is another one."""
    sizes = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": N_LAYER, "num_attention_heads": H,
             "intermediate_size": F, "max_position_embeddings": CONTEXT, "type_vocab_size": 2,
             "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip
    return transformers.BertConfig(**sizes | changes)
