"""From logits to one token a branch. A row never depends on its neighbours: each has a seed and a draw a step of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch

from agents.protocol import Sampling


def draws(sampling: Sampling) -> np.ndarray:
    """(max_tokens,) numbers in [0, 1), the same for the same seed. More tokens begin with the same draws."""
    return np.random.Generator(np.random.Philox(key=sampling.seed)).random(sampling.max_tokens)


def choose(logits: torch.Tensor, sampling: Sequence[Sampling], drawn: Sequence[float], stop_ids: Collection[int] = (),
           step: int = 0) -> tuple[list[int], list[float]]:
    """One token a row of (B, V) float32 logits, by inverse transform of its draw, and its log p in nats at temperature 1 over
    the whole vocabulary. The top k are taken first, then the fewest of them whose probability reaches top_p. No stop token is
    taken by a row that has not had its min_tokens at this step."""
    vocabulary = logits.shape[1]
    norm = logits.logsumexp(-1)
    allowed = logits
    if stop_ids and (early := [row for row, s in enumerate(sampling) if step < s.min_tokens]):
        allowed = logits.clone()
        allowed[torch.tensor(early)[:, None], torch.tensor(sorted(stop_ids))] = float("-inf")
    kept = [min(s.top_k or vocabulary, vocabulary) for s in sampling]
    values, indices = allowed.topk(max(kept))  # (B, k), falling
    keep = torch.arange(values.shape[1])[None] < torch.tensor(kept)[:, None]
    warmth = _column([max(s.temperature, 1e-6) for s in sampling])
    p = (values.double() / warmth).masked_fill(~keep, float("-inf")).softmax(-1)
    before = p.cumsum(-1) - p
    p = p.masked_fill(before >= _column([s.top_p for s in sampling]), 0.0)
    edges = p.cumsum(-1)
    picks = (edges <= _column(drawn) * edges[:, -1:]).sum(-1)
    picks = picks.masked_fill(torch.tensor([s.temperature == 0 for s in sampling]), 0)[:, None]
    tokens = indices.gather(1, picks)
    return tokens[:, 0].tolist(), (logits.gather(1, tokens)[:, 0] - norm).tolist()


def _column(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]
