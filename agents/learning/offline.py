"""Supervised tuning and offline policy gradients: lines that were said before, each good or bad by its reward's sign.

`sft` learns the good ones and never hears of the bad; the others are punished for them, each in its way
(`agents.learning.losses`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.learning import losses
from agents.learning.distributed import share
from agents.learning.learner import Learner, Loss, Read
from agents.learning.views import View, with_lines


def parts(
    learner: Learner,
    batch: Sequence[View],
    method: str,
    *,
    alpha: float = 1.0,
    desirable: float = 1.0,
    undesirable: float = 1.0,
) -> list[tuple[View, Loss]]:
    """Views of this worker's share and what each costs in the whole batch. Lines of reward 0 or None teach nothing.

    `method`: sft, unlikelihood, gold or varmi. `alpha`: of unlikelihood; `desirable`, `undesirable`: what a good and a
    bad line count in gold and varmi.
    """
    wanted = (lambda reward: reward > 0) if method == "sft" else (lambda reward: reward != 0)
    views = [with_lines(view, lambda line: line.reward is not None and wanted(line.reward)) for view in batch]
    views = [view for view in views if view.lines]
    tokens = sum(len(line.ids) for view in views for line in view.lines)

    def loss(view: View, read: Read) -> Tensor:
        sign = torch.tensor([line.reward for line in view.lines], device=read.logps.device).sign()
        if method == "sft":
            return losses.supervised(read.logps, read.mask, tokens)
        if method == "unlikelihood":
            return losses.unlikelihood(read.logps, read.mask, sign > 0, tokens, alpha)
        reward = torch.where(sign > 0, desirable, -undesirable)
        return (losses.gold if method == "gold" else losses.varmi)(read.logps, read.mask, reward, tokens)

    return [(views[place], lambda read, view=views[place]: loss(view, read)) for place in share(views)]
