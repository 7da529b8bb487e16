"""The loss of each training method, and how rewards become advantages. Pure functions of tensors.

Unless a docstring says otherwise, `logps`, `old`, `ref` and `mask` are (N, T), for N lines of up to T tokens. The first
three hold each token's log-probability in nats under the trained model, under the model that sampled it, and under the
reference model (before training). `mask` is 1 where a line has a token and 0 after its end. A loss per line (N,) is
already divided by N where the method takes a mean over lines: the sum over a batch is the loss of the batch, so that a
batch can be processed in parts and spread over workers. `clipped` and `divergence` are per token; `averaged` makes
losses per line of them.

Sources: GRPO (Shao et al., arXiv 2402.03300, eq. 3; Dr. GRPO 2503.20783; DAPO 2503.14476; the divergence's weight:
DeepSeek-V3.2, 2512.02556), PPO (Schulman et al., 1707.06347), GAE (1506.02438), DPO (2305.18290, eq. 7), KTO
(2402.01306, eq. 8), unlikelihood (Welleck et al., 1908.04319, eq. 4 for whole lines), GOLD (Pang and He, 2009.07839)
and VaRMI (Shea and Yu, 2310.10735, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

TINY = 1e-6  # keeps 1 - p away from 0; rewards that differ by less are equal


def supervised(logps: Tensor, mask: Tensor, tokens: float) -> Tensor:
    """Cross-entropy per line (N,): -Σ logp over its tokens / `tokens`, the number of tokens of the batch."""
    return -(logps * mask).sum(1) / tokens


def unlikelihood(logps: Tensor, mask: Tensor, good: Tensor, tokens: float, alpha: float = 1.0) -> Tensor:
    """Per line (N,): for good lines (`good` (N,) bool) as in `supervised`; for others alpha * Σ -log(1 - p) /
    `tokens`.
    """
    against = -torch.log1p(-logps.exp().clamp(max=1 - TINY))
    return (torch.where(good[:, None], -logps, alpha * against) * mask).sum(1) / tokens


def gold(logps: Tensor, mask: Tensor, reward: Tensor, tokens: float) -> Tensor:
    """Offline policy gradient (GOLD) per line (N,): -Σ reward * p * logp / `tokens`, where the weight p is constant.

    `reward` is (N,). Tokens of low probability have little weight.
    """
    return -(reward[:, None] * logps.detach().exp() * logps * mask).sum(1) / tokens


def varmi(logps: Tensor, mask: Tensor, reward: Tensor, tokens: float) -> Tensor:
    """Like `gold`, but lines with a reward above 0 have weight 1 in place of p."""
    weight = torch.where(reward[:, None] > 0, torch.ones_like(logps), logps.detach().exp())
    return -(reward[:, None] * weight * logps * mask).sum(1) / tokens


def dpo(chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float) -> Tensor:
    """The loss per pair (P,): -log sigmoid(beta * (margin - reference margin)) / P.

    All tensors are summed log-likelihoods (P,) in nats; a margin is that of the chosen line minus that of the rejected
    one.
    """
    return -logsigmoid(beta * ((chosen - rejected) - (ref_chosen - ref_rejected))) / len(chosen)


def kto(
    logratio: Tensor,
    good: Tensor,
    kl: Tensor,
    beta: float,
    desirable: float = 1.0,
    undesirable: float = 1.0,
    lines: int | None = None,
) -> Tensor:
    """The loss per line (N,): w * (1 - sigmoid(± beta * (log ratio - KL))) / `lines` (N where None), + for good lines.

    w is `desirable` for good lines, else `undesirable`. `logratio` (N,) is the summed log-likelihood minus that under
    the reference model; `kl` is an estimate (at least 0) of the divergence and counts as constant.
    """
    gain = torch.where(good, 1 - torch.sigmoid(beta * (logratio - kl)), 1 - torch.sigmoid(beta * (kl - logratio)))
    return torch.where(good, desirable, undesirable) * gain / (lines or len(logratio))


def kto_kl(logps: Tensor, ref: Tensor) -> Tensor:
    """An estimate of the divergence from the reference model, in nats, at least 0: a scalar without gradient.

    It is the mean of `logps` - `ref`, both (N,): log-likelihoods of whole lines, each behind the dialogue of another.
    """
    return (logps - ref).mean().detach().clamp(min=0)


def clipped(logps: Tensor, old: Tensor, mask: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """The clipped surrogate of PPO and GRPO per token (N, T): -min(r A, clip(r, 1 - low, 1 + high) A), r = e^(logp -
    old).

    `advantage` A is (N,).
    """
    ratio = ((logps - old) * mask).exp()
    advantage = advantage[:, None]
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def divergence(logps: Tensor, old: Tensor, ref: Tensor, mask: Tensor) -> Tensor:
    """An estimate of KL(policy || reference) per token (N, T), in nats, at least 0: r * (e^d - d - 1).

    d = ref - logp and r = e^(logp - old). Its mean over samples of `old` is the KL, and the mean of its gradient is the
    gradient of the KL; without r the gradient would be wrong, even where r is 1.
    """
    difference = (ref - logps) * mask
    return ((logps - old) * mask).exp() * (difference.exp() - difference - 1)


def averaged(per_token: Tensor, mask: Tensor, kind: str, lines: int, tokens: float, longest: int) -> Tensor:
    """The loss per line (N,) from one per token (N, T), so that the sum over lines is the average of `kind`.

    - grpo: the mean of each line / `lines`. A token of a long line counts less.
    - dapo: the sum of each line / `tokens`, those of the batch.
    - dr_grpo: the sum of each line / (`lines` * `longest`), `longest` in tokens.

    The expected gradient of the last two is that of the reward as far as the divisor is the same for all batches, which
    `longest` nearly is, and `tokens` of many lines.
    """
    total = (per_token * mask).sum(1)
    if kind == "grpo":
        return total / mask.sum(1).clamp(min=1) / lines
    return total / (tokens if kind == "dapo" else lines * longest)


def value(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Half the squared error of each value (N,), divided by N; `values`, `old` and `returns` are (N,).

    It is the larger of the errors of the value and of the value clipped to old ± clip, as in PPO.
    """
    held = old + (values - old).clamp(-clip, clip)
    return torch.maximum((values - returns) ** 2, (held - returns) ** 2) / 2 / len(values)


def discounted(rewards: Sequence[float], gamma: float) -> list[float]:
    """The discounted return of each turn: its reward plus gamma times the return of the next turn."""
    worth, backwards = 0.0, []
    for reward in reversed(rewards):
        worth = reward + gamma * worth
        backwards.append(worth)
    return backwards[::-1]


def generalised(rewards: Sequence[float], values: Sequence[float], gamma: float, lam: float) -> list[float]:
    """The generalised advantage (GAE) of each turn; the value after the last turn is 0."""
    advantage, backwards = 0.0, []
    for turn in reversed(range(len(rewards))):
        following = values[turn + 1] if turn + 1 < len(values) else 0.0
        advantage = rewards[turn] + gamma * following - values[turn] + gamma * lam * advantage
        backwards.append(advantage)
    return backwards[::-1]


def relative(rewards: Tensor, scale: bool) -> Tensor | None:
    """The rewards (N,) of a group minus their mean; with `scale`, divided by their standard deviation.

    None where all rewards are equal. With `scale` the expected gradient is not that of the reward: it differs in
    direction where rewards have more than two values, and groups weigh alike however much their rewards differ (Dr.
    GRPO, section 3; `tests/agents/test_policy_gradients.py` measures it).
    """
    if (rewards - rewards[0]).abs().max() < TINY:
        return None
    away = rewards - rewards.mean()
    return away / (rewards.std() + 1e-4) if scale else away
