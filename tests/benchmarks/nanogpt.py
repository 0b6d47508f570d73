"""The usual teaching loop, written afresh for comparison: a GPT in plain torch, AdamW, random chunks, cosine.

Settings are those that are usual for characters of a small text on a CPU: block 64, batch 12, 4 layers, 4 heads, width
128, 2,000 steps, no dropout, no biases, tied embeddings. Nothing is slowed down: one product for query, key and value,
torch's fused attention, torch's AdamW as it comes, no evaluation within the time.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class Settings:
    """The sizes of the model and of its run."""

    vocabulary: int = 65
    block: int = 64
    n_layer: int = 4
    n_head: int = 4
    width: int = 128
    bias: bool = False
    batch: int = 12
    steps: int = 2000
    rate: float = 1e-3


class Attention(nn.Module):
    """Causal self-attention with one matrix for query, key and value."""

    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.heads, self.width = s.n_head, s.width
        self.c_attn = nn.Linear(s.width, 3 * s.width, bias=s.bias)
        self.c_proj = nn.Linear(s.width, s.width, bias=s.bias)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (part.view(b, t, self.heads, d // self.heads).transpose(1, 2)
                   for part in self.c_attn(x).split(self.width, dim=2))  # fmt: skip
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(b, t, d))


class Layer(nn.Module):
    """Attention and MLP, each after a norm and added to the stream."""

    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(s.width, bias=s.bias), nn.LayerNorm(s.width, bias=s.bias)
        self.attn = Attention(s)
        self.c_fc, self.gelu = nn.Linear(s.width, 4 * s.width, bias=s.bias), nn.GELU()
        self.c_proj = nn.Linear(4 * s.width, s.width, bias=s.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.c_proj(self.gelu(self.c_fc(self.ln_2(x))))


class NanoGPT(nn.Module):
    """Tokens (b, t) and their targets in, the mean loss out."""

    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.settings = s
        self.wte, self.wpe = nn.Embedding(s.vocabulary, s.width), nn.Embedding(s.block, s.width)
        self.h = nn.ModuleList(Layer(s) for _ in range(s.n_layer))
        self.ln_f = nn.LayerNorm(s.width, bias=s.bias)
        self.lm_head = nn.Linear(s.width, s.vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02 / (math.sqrt(2 * s.n_layer) if name.endswith("c_proj.weight") else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def logits(self, tokens: Tensor) -> Tensor:
        """What comes next at every place."""
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for layer in self.h:
            x = layer(x)
        return self.lm_head(self.ln_f(x))

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        logits = self.logits(tokens)
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))

    def optimizer(self, rate: float | None = None, fused: bool | None = None) -> torch.optim.AdamW:
        """AdamW, decaying matrices only."""
        groups = [{"params": [p for p in self.parameters() if p.dim() >= 2], "weight_decay": 0.1},
                  {"params": [p for p in self.parameters() if p.dim() < 2], "weight_decay": 0.0}]  # fmt: skip
        return torch.optim.AdamW(groups, lr=rate or self.settings.rate, betas=(0.9, 0.99), fused=fused)


def step(model: NanoGPT, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """One step: forward, backward, clip, move."""
    loss = model(x, y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def rate_at(i: int, s: Settings) -> float:
    """A warm-up of 100 steps, then a cosine to a tenth."""
    if i < 100:
        return s.rate * (i + 1) / 101
    share = (i - 100) / max(1, s.steps - 100)
    return s.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def run(text: Tensor, s: Settings, seed: int) -> NanoGPT:
    """A whole run over `text`, its tokens as int64."""
    torch.manual_seed(seed)
    model = NanoGPT(s)
    optimizer = model.optimizer()
    for i in range(s.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(i, s)
        start = torch.randint(len(text) - s.block, (s.batch,))
        x = torch.stack([text[j : j + s.block] for j in start])
        y = torch.stack([text[j + 1 : j + 1 + s.block] for j in start])
        step(model, optimizer, x, y)
    return model
