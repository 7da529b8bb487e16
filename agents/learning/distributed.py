"""Communication between the workers of a learner, over torch.distributed where that is initialised.

Every worker gets the whole batch and counts over it, but reads only its share; small values that all workers need are
exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist

from agents.learning.views import View

T = TypeVar("T")


def share(views: Sequence[View]) -> list[int]:
    """Indices of the views that this worker reads; views are assigned by length, so that shares are about equally
    long.
    """
    if not dist.is_initialized():
        return list(range(len(views)))
    rank, turn = dist.get_rank(), 2 * dist.get_world_size()
    ranked = sorted(range(len(views)), key=lambda place: -_length(views[place]))
    return sorted(place for n, place in enumerate(ranked) if min(n % turn, turn - 1 - n % turn) == rank)


def across(views: Sequence[View], work: Callable[[list[View]], Sequence[T]]) -> list[T]:
    """The result of `work` for each view: every worker computes its share and receives the rest."""
    mine = share(views)
    results = dict(zip(mine, work([views[place] for place in mine]), strict=True))
    every = {place: value for by_worker in gathered(results) for place, value in by_worker.items()}
    return [every[place] for place in range(len(views))]


def gathered(own: T) -> list[T]:
    """The values of all workers, in the order of their ranks."""
    if not dist.is_initialized():
        return [own]
    by_worker: list = [None] * dist.get_world_size()
    dist.all_gather_object(by_worker, own)
    return by_worker


def summed(number: float, device: torch.device) -> float:
    """The sum over all workers; `device` is one from which they can send tensors."""
    if not dist.is_initialized():
        return number
    total = torch.tensor(number, dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)
    dist.all_reduce(total)
    return float(total)


def _length(view: View) -> int:
    return len(view.ids) + sum(len(line.given) + len(line.ids) for line in view.lines if not line.on_trunk)
