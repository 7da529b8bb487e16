"""From logits to one token per branch. A row never depends on other rows: it has its own seed and one draw per step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from agents.engine.protocol import Sampling
from agents.models import cpu_kernels

LOGITS_AT_ONCE = 512  # most rows that are made float32 at once


def draws(sampling: Sampling) -> np.ndarray:
    """(max_tokens,) numbers in [0, 1) from the seed; a larger max_tokens only adds numbers at the end."""
    return np.random.Generator(np.random.Philox(key=sampling.seed)).random(sampling.max_tokens)


@dataclass(frozen=True)
class Choice:
    """A token, with two log-probabilities in nats: at temperature 1 over the whole vocabulary, and as it was drawn."""

    token: int
    logprob: float
    drawn: float


def choose(
    logits: torch.Tensor,
    sampling: Sequence[Sampling],
    drawn: Sequence[float],
    stop_ids: Collection[int] = (),
    step: int = 0,
) -> list[Choice]:
    """One token per row of logits (B, V), by the inverse transform of its draw.

    The top k are kept first, then the fewest of them whose probability reaches top_p. Before a row has its min_tokens,
    no stop token is chosen.
    """
    stops = torch.tensor(sorted(stop_ids), dtype=torch.long)
    norm, choices = log_norms(logits).tolist(), {}
    whole = [
        row
        for row, settings in enumerate(sampling)
        if not settings.top_k and settings.top_p == 1 and settings.temperature > 0
    ]
    for pick, rows in ((_of_all, whole), (_of_the_likeliest, sorted(set(range(len(sampling))) - set(whole)))):
        for start in range(0, len(rows), LOGITS_AT_ONCE):
            row_numbers = rows[start : start + LOGITS_AT_ONCE]
            own = [sampling[row] for row in row_numbers]
            early = torch.tensor([step < settings.min_tokens for settings in own])[:, None]
            some_logits = logits if len(row_numbers) == len(logits) else logits[row_numbers]
            picked = pick(some_logits, own, _column([drawn[row] for row in row_numbers]), stops, early)
            for row, token, logit, p in zip(row_numbers, *(t.tolist() for t in picked), strict=True):
                choices[row] = Choice(token, logit - norm[row], p)
    return [choices[row] for row in range(len(sampling))]


def _of_the_likeliest(
    logits: torch.Tensor, sampling: Sequence[Sampling], drawn: torch.Tensor, stops: torch.Tensor, early: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, their logits and the log of what they were drawn with, (B,) each. The likeliest tokens come first in the
    transform.
    """
    vocabulary = logits.shape[1]
    kept = [min(settings.top_k or vocabulary, vocabulary) for settings in sampling]
    most = min(max(kept) + len(stops) * bool(early.any()), vocabulary)  # as many more as may fall away
    values, indices = (t.cpu() for t in logits.topk(most))  # (B, most), falling
    values = values.double()
    keep = ~(early & torch.isin(indices, stops))
    keep &= keep.cumsum(-1) <= torch.tensor(kept)[:, None]
    p = (
        (values / _column([max(settings.temperature, 1e-6) for settings in sampling]))
        .masked_fill(~keep, float("-inf"))
        .softmax(-1)
    )
    before = p.cumsum(-1) - p
    p = p.masked_fill(before >= _column([settings.top_p for settings in sampling]), 0.0)
    edges = p.cumsum(-1)
    picks = (edges <= drawn * edges[:, -1:]).sum(-1)
    greedy = torch.tensor([settings.temperature == 0 for settings in sampling])
    picks = torch.where(greedy, keep.int().argmax(-1), picks)[:, None]
    of_all = torch.where(greedy, 0.0, (p.gather(1, picks)[:, 0] / edges[:, -1]).log())
    return indices.gather(1, picks)[:, 0], values.gather(1, picks)[:, 0], of_all


def _of_all(
    logits: torch.Tensor, sampling: Sequence[Sampling], drawn: torch.Tensor, stops: torch.Tensor, early: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `_of_the_likeliest`, of the whole vocabulary in its own order, which needs no sorting."""
    scaled = logits.float() / _column([settings.temperature for settings in sampling]).to(logits.device, torch.float32)
    if early.any():
        scaled[:, stops.to(logits.device)] = scaled[:, stops.to(logits.device)].masked_fill(
            early.to(logits.device), float("-inf")
        )
    logp = scaled.log_softmax(-1)
    edges = logp.exp().double().cumsum(-1)
    picks = (edges <= drawn.to(logits.device) * edges[:, -1:]).sum(-1, keepdim=True)
    return picks[:, 0].cpu(), logits.gather(1, picks)[:, 0].double().cpu(), logp.gather(1, picks)[:, 0].double().cpu()


def log_norms(logits: torch.Tensor) -> torch.Tensor:
    """log sum exp of each row of (B, V): (B,) float32 on the CPU."""
    if cpu_kernels.able(logits):
        return cpu_kernels.logsumexp(logits)
    return torch.cat([part.float().logsumexp(-1).cpu() for part in logits.split(LOGITS_AT_ONCE)])


def _column(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]
