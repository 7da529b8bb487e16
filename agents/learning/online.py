"""Policy gradients on lines sampled from the current model (or one a few updates older): GRPO and PPO.

Credit is assigned by turn. GRPO's baseline is a group: the lines sampled at the same place of the same dialogue
(`turns`), or those of whole dialogues with the same beginning, turn by turn, with discounted returns (`episodes`).
PPO's baseline is a value head, read before each line, with generalised advantages over the turns. Only sampled tokens
have a loss; the other tokens of a view are only read.

Where lines of a turn are compared, a line is credited with its own reward; with `reward_to_go` the one of them that the
dialogue went on from is also credited with what came after.

It differs from the textbook in two ways: a "sequence" of GRPO is a line and not a dialogue, and the divergence from the
reference model is a term of the loss in PPO as well, and not of the reward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from agents.learning import losses
from agents.learning.distributed import across, share
from agents.learning.learner import Learner, Loss, Read
from agents.learning.views import Sampled, View, at_places, with_lines
from scenarios.jobs.training_keys import Tuning

Advantages = list[list[float]]  # by view and line


def by_place(batch: Sequence[View], how: Tuning) -> tuple[list[View], Advantages, int]:
    """The advantages of lines within each place, and the number of places skipped: those with fewer than two lines that
    have a reward, and those whose rewards are all equal. With `reward_to_go`, the advantage of `later` is added.
    """
    views, advantages, skipped = [], [], 0
    afterwards = later(batch, how.gamma) if how.reward_to_go else [{}] * len(batch)
    for view, after in zip(batch, afterwards, strict=True):
        kept: dict[Sampled, float] = {}
        for lines in at_places(view):
            scored = [line for line in lines if line.reward is not None]
            relative = (
                losses.relative(torch.tensor([line.reward for line in scored]), how.scale_rewards)
                if len(scored) > 1
                else None
            )
            skipped += relative is None
            kept |= dict(zip(scored, relative.tolist(), strict=True)) if relative is not None else {}
            for line in scored:
                if line.on_trunk and after.get(line.turn) and len(scored) > 1:
                    # a group of n climbs n - 1 times the gradient of its own rewards
                    kept[line] = kept.get(line, 0.0) + (len(scored) - 1) * after[line.turn]
        if kept:
            views.append(with_lines(view, kept.__contains__))
            advantages.append([kept[line] for line in views[-1].lines])
    return views, advantages, skipped


def later(batch: Sequence[View], gamma: float) -> list[dict[int, float]]:
    """By view and turn, the advantage of the line that the dialogue went on from, for what came after it.

    It is the discounted sum of the mean rewards of the dialogue's later turns, less the mean of that sum over the other
    dialogues at the same turn. The mean over all lines sampled at a later turn has the expectation of the one that was
    continued, and a smaller variance. The other dialogues know nothing of this line, so that the baseline adds no bias;
    a turn of one dialogue alone gets 0, and a turn without a reward adds 0.
    """
    sums: list[dict[int, float]] = []
    for view in batch:
        by_turn: dict[int, list[float]] = {line.turn: [] for line in view.lines if not line.given}
        for line in view.lines:
            if line.reward is not None and not line.given:
                by_turn[line.turn].append(line.reward)
        turns = sorted(by_turn)
        returns = losses.discounted([sum(by_turn[t]) / max(len(by_turn[t]), 1) for t in turns], gamma)
        sums.append({turn: gamma * after for turn, after in zip(turns, [*returns[1:], 0.0], strict=True)})
    return [
        {
            turn: after - sum(others) / len(others) if others else 0.0
            for turn, after in of_view.items()
            for others in [[other[turn] for other in sums if other is not of_view and turn in other]]
        }
        for of_view in sums
    ]


def by_dialogue(batch: Sequence[View], group: Callable[[View], int], how: Tuning) -> tuple[list[View], Advantages, int]:
    """The advantages of each turn's return within the same turn of the dialogues of its group.

    A turn without a reward adds 0 to the returns. The third result is the number of turns of groups that were skipped:
    those of one dialogue alone, and those whose returns are all equal.
    """
    views = [with_lines(view, lambda line: line.on_trunk) for view in batch]
    returns = [losses.discounted([line.reward or 0.0 for line in view.lines], how.gamma) for view in views]
    together: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for v, view in enumerate(views):
        for place, line in enumerate(view.lines):
            together.setdefault((group(view), line.turn), []).append((v, place))
    relative_of: dict[tuple[int, int], float] = {}
    skipped = 0
    for members in together.values():
        relative = (
            losses.relative(torch.tensor([returns[v][place] for v, place in members]), how.scale_rewards)
            if len(members) > 1
            else None
        )
        skipped += relative is None
        relative_of |= dict(zip(members, relative.tolist(), strict=True)) if relative is not None else {}
    kept, advantages = [], []
    for v, view in enumerate(views):
        places = [
            place for place, line in enumerate(view.lines) if (v, place) in relative_of and line.reward is not None
        ]
        if places:
            wanted = {view.lines[place] for place in places}
            kept.append(with_lines(view, wanted.__contains__))
            advantages.append([relative_of[v, place] for place in places])
    return kept, advantages, skipped


def by_value(
    learner: Learner, batch: Sequence[View], how: Tuning
) -> tuple[list[View], Advantages, Advantages, Advantages]:
    """Views with the generalised advantage, the return and the old value of each line; four empty lists where all
    rewards are equal.

    Advantages have mean 0 and standard deviation 1. The lines on the trunk are the turns of one episode; a line without
    a reward adds 0 to it and has no loss. An answer to a Q&A probe is an episode of its own.
    """
    whole = [with_lines(view, lambda line: line.on_trunk or bool(line.given)) for view in batch]
    whole = [view for view in whole if any(map(_scored, view.lines))]
    if len({line.reward for view in whole for line in filter(_scored, view.lines)}) < 2:
        return [], [], [], []
    values = across(whole, lambda row: [read.values.tolist() for read in learner.read(row)])
    advantages = [_by_turn(view, old, how) for view, old in zip(whole, values, strict=True)]
    views = [with_lines(view, _scored) for view in whole]
    values, advantages = (
        [
            [value for value, line in zip(row, view.lines, strict=True) if _scored(line)]
            for row, view in zip(every, whole, strict=True)
        ]
        for every in (values, advantages)
    )
    returns = [[a + v for a, v in zip(row, old, strict=True)] for row, old in zip(advantages, values, strict=True)]
    flat = torch.tensor([a for row in advantages for a in row])
    mean, spread = float(flat.mean()), float(flat.std()) if len(flat) > 1 else 0.0
    return views, [[(a - mean) / (spread + 1e-8) for a in row] for row in advantages], returns, values


def _scored(line: Sampled) -> bool:
    return line.reward is not None


def _by_turn(view: View, values: Sequence[float], how: Tuning) -> list[float]:
    advantages = [(line.reward or 0.0) - value for line, value in zip(view.lines, values, strict=True)]
    turns = [place for place, line in enumerate(view.lines) if line.on_trunk]
    rewards = [view.lines[place].reward or 0.0 for place in turns]
    credited = losses.generalised(rewards, [values[place] for place in turns], how.gamma, how.lam)
    for place, advantage in zip(turns, credited, strict=True):
        advantages[place] = advantage
    return advantages


def parts(
    learner: Learner,
    views: Sequence[View],
    advantages: Advantages,
    how: Tuning,
    *,
    returns: Advantages | None = None,
    values: Advantages | None = None,
    seen: dict[str, list[Tensor]] | None = None,
) -> list[tuple[View, Loss]]:
    """The views of this worker's share, with their parts of the loss of the whole batch.

    `seen` collects diagnostics by name: ratio, kl and entropy of each token.
    """
    lines, tokens = sum(len(view.lines) for view in views), sum(len(line.ids) for view in views for line in view.lines)
    longest = max((len(line.ids) for view in views for line in view.lines), default=1)
    mine = share(views)
    refs = learner.read([views[place] for place in mine], untouched=True) if how.beta else [None] * len(mine)
    costs = []
    for place, ref in zip(mine, refs, strict=True):

        def loss(read: Read, view: View = views[place], ref: Read | None = ref, place: int = place) -> Tensor:
            device, mask = read.logps.device, read.mask
            old = torch.zeros_like(read.logps)
            for n, line in enumerate(view.lines):
                old[n, : len(line.ids)] = torch.tensor(line.logprobs, device=device)
            advantage = torch.tensor(advantages[place], device=device)
            per_token = losses.clipped(read.logps, old, mask, advantage, how.epsilon, how.epsilon_high)
            kl = losses.divergence(read.logps, old, ref.logps, mask) if ref is not None else torch.zeros_like(per_token)
            _note(seen, mask.bool(), ratio=(read.logps - old).exp(), kl=kl, entropy=read.entropy)
            cost = losses.averaged(per_token + how.beta * kl, mask, how.loss_type, lines, tokens, longest)
            if returns is not None and values is not None:
                off = losses.value(
                    read.values,
                    torch.tensor(values[place], device=device),
                    torch.tensor(returns[place], device=device),
                    how.cliprange_value,
                )
                cost = cost + how.vf_coef * off * len(off) / lines
            return cost

        costs.append((views[place], loss))
    return costs


def _note(seen: dict[str, list[Tensor]] | None, mask: Tensor, **tensors: Tensor) -> None:
    if seen is None:
        return
    for name, tensor in tensors.items():
        seen.setdefault(name, []).append(tensor.detach()[mask].float().cpu())
