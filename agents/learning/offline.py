"""Supervised tuning and offline policy gradients on logged lines, good or bad by the sign of their reward.

`sft` trains on the good lines only; the other methods also penalise the bad ones (`agents.learning.losses`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.learning import losses
from agents.learning.distributed import share
from agents.learning.learner import Loss, Read
from agents.learning.views import View, with_lines


def parts(
    batch: Sequence[View],
    method: str,
    *,
    alpha: float = 1.0,
    desirable: float = 1.0,
    undesirable: float = 1.0,
) -> list[tuple[View, Loss]]:
    """The views of this worker's share, with their parts of the loss of the batch; lines with reward 0 or None have no
    loss.

    `method` is sft, unlikelihood, gold or varmi; `alpha` is unlikelihood's; `desirable` and `undesirable` are the
    weights of good and bad lines in gold and varmi.
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
