"""Preference tuning: DPO on pairs of lines from the same place, KTO on single lines, good or bad.

It differs from the textbook only in its data: a pair is the best and the worst of the lines sampled at one place of a
dialogue, where their rewards differ. As in TRL, KTO's estimate of the divergence reads each view's lines after another
view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from agents.learning import losses
from agents.learning.distributed import across, share
from agents.learning.learner import Learner, Loss, Read
from agents.learning.views import View, at_places, best_and_worst, with_lines


def parts_dpo(learner: Learner, batch: Sequence[View], *, beta: float) -> list[tuple[View, Loss]]:
    """The views of this worker's share with their losses: one pair per place, chosen before rejected.

    Places with equal rewards have no loss.
    """
    paired = []
    for view in batch:
        lines = []
        for alternatives in at_places(view):
            lines += best_and_worst(alternatives) or ()
        if lines:
            paired.append(replace(view, lines=tuple(lines)))
    pairs = sum(len(view.lines) for view in paired) // 2
    mine, costs = [paired[place] for place in share(paired)], []
    for view, ref in zip(mine, learner.read(mine, untouched=True), strict=True):
        before = _totals(ref)

        def loss(read: Read, before: Tensor = before) -> Tensor:
            now = _totals(read)
            return losses.dpo(now[::2], now[1::2], before[::2], before[1::2], beta) * (len(now) // 2) / pairs

        costs.append((view, loss))
    return costs


def parts_kto(
    learner: Learner, batch: Sequence[View], *, beta: float, desirable: float, undesirable: float
) -> list[tuple[View, Loss]]:
    """The views of this worker's share with their losses: single lines, good with a reward above 0, bad with one below
    0.

    Lines with reward 0 or None have no loss.
    """
    views = [with_lines(view, lambda line: line.reward is not None and line.reward != 0) for view in batch]
    views = [view for view in views if view.lines]
    lines = sum(len(view.lines) for view in views)
    kl = torch.zeros((), device=learner.device)
    if len(views) > 1:  # else there is no other view, and no estimate
        swapped = [mismatched(view, other) for view, other in zip(views, [*views[-1:], *views[:-1]], strict=True)]
        both = [
            across(
                swapped,
                lambda swapped_views, base=base: [
                    _totals(read).tolist() for read in learner.read(swapped_views, untouched=base)
                ],
            )
            for base in (False, True)
        ]
        kl = losses.kto_kl(*(torch.tensor(list(chain.from_iterable(totals)), device=learner.device) for totals in both))
    mine, costs = [views[place] for place in share(views)], []
    for view, ref in zip(mine, learner.read(mine, untouched=True), strict=True):
        good, before = (
            torch.tensor([(line.reward or 0.0) > 0 for line in view.lines], device=ref.logps.device),
            _totals(ref),
        )

        def loss(read: Read, good: Tensor = good, before: Tensor = before) -> Tensor:
            return losses.kto(_totals(read) - before, good, kl, beta, desirable, undesirable, lines)

        costs.append((view, loss))
    return costs


def mismatched(view: View, other: View) -> View:
    """The view with the lines of another view, at its own places."""
    lines = [
        replace(other.lines[place % len(other.lines)], start=line.start, given=line.given, on_trunk=False)
        for place, line in enumerate(view.lines)
    ]
    return replace(view, lines=tuple(lines))


def _totals(read: Read) -> Tensor:
    return (read.logps * read.mask).sum(1)
