"""What the workers of one learner do together, over torch.distributed where that is initialised; without it a worker is
alone.

Each is given the whole batch, and so counts over the whole, but reads its share only; what all must know of it goes
round as small values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist

from agents.learning.views import View

T = TypeVar("T")


def share(views: Sequence[View]) -> list[int]:
    """Places of the views that this worker reads. The longest are dealt out first, back and forth, so that shares are
    of like length.
    """
    if not dist.is_initialized():
        return list(range(len(views)))
    rank, turn = dist.get_rank(), 2 * dist.get_world_size()
    ranked = sorted(range(len(views)), key=lambda place: -_length(views[place]))
    return sorted(place for n, place in enumerate(ranked) if min(n % turn, turn - 1 - n % turn) == rank)


def across(views: Sequence[View], work: Callable[[list[View]], Sequence[T]]) -> list[T]:
    """What `work` makes of each view: every worker does its share and is told the rest."""
    mine = share(views)
    results = dict(zip(mine, work([views[place] for place in mine]), strict=True))
    every = {place: value for by_worker in gathered(results) for place, value in by_worker.items()}
    return [every[place] for place in range(len(views))]


def gathered(own: T) -> list[T]:
    """What each worker brings, in their order."""
    if not dist.is_initialized():
        return [own]
    by_worker: list = [None] * dist.get_world_size()
    dist.all_gather_object(by_worker, own)
    return by_worker


def summed(number: float, device: torch.device) -> float:
    """Over all workers; `device`: one that they can send tensors from."""
    if not dist.is_initialized():
        return number
    total = torch.tensor(number, dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)
    dist.all_reduce(total)
    return float(total)


def _length(view: View) -> int:
    return len(view.ids) + sum(len(line.given) + len(line.ids) for line in view.lines if not line.on_trunk)
