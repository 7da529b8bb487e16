"""From logits to one token a branch. A row never depends on its neighbours: each has a seed and a draw a step of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch

from agents import kernels
from agents.protocol import Sampling

LOGITS_AT_ONCE = 512  # most rows that are made float32 at once


def draws(sampling: Sampling) -> np.ndarray:
    """(max_tokens,) numbers in [0, 1), the same for the same seed. More tokens begin with the same draws."""
    return np.random.Generator(np.random.Philox(key=sampling.seed)).random(sampling.max_tokens)


def choose(logits: torch.Tensor, sampling: Sequence[Sampling], drawn: Sequence[float], stop_ids: Collection[int] = (),
           step: int = 0) -> tuple[list[int], list[float]]:
    """One token a row of logits (B, V), by inverse transform of its draw, and its log p in nats at temperature 1 over the
    whole vocabulary. The top k are taken first, then the fewest of them whose probability reaches top_p. No stop token is
    taken by a row that has not had its min_tokens at this step."""
    vocabulary = logits.shape[1]
    stops = torch.tensor(sorted(stop_ids), dtype=torch.long)
    early = torch.tensor([step < s.min_tokens for s in sampling])[:, None]
    kept = [min(s.top_k or vocabulary, vocabulary) for s in sampling]
    most = min(max(kept) + len(stops) * bool(early.any()), vocabulary)  # as many more as may fall away
    norm = log_norms(logits)
    values, indices = (t.cpu() for t in logits.topk(most))  # (B, most), falling
    values = values.double()
    keep = ~(early & torch.isin(indices, stops))
    keep &= keep.cumsum(-1) <= torch.tensor(kept)[:, None]
    p = (values / _column([max(s.temperature, 1e-6) for s in sampling])).masked_fill(~keep, float("-inf")).softmax(-1)
    before = p.cumsum(-1) - p
    p = p.masked_fill(before >= _column([s.top_p for s in sampling]), 0.0)
    edges = p.cumsum(-1)
    picks = (edges <= _column(drawn) * edges[:, -1:]).sum(-1)
    greedy = torch.tensor([s.temperature == 0 for s in sampling])
    picks = torch.where(greedy, keep.int().argmax(-1), picks)[:, None]
    return indices.gather(1, picks)[:, 0].tolist(), (values.gather(1, picks)[:, 0] - norm).tolist()


def log_norms(logits: torch.Tensor) -> torch.Tensor:
    """log sum exp of each row of (B, V): (B,) float32 on the CPU."""
    if kernels.able(logits):
        return kernels.logsumexp(logits)
    return torch.cat([part.float().logsumexp(-1).cpu() for part in logits.split(LOGITS_AT_ONCE)])


def _column(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]
