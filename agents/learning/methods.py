"""One training step of any method: from views with rewards to updates of the learner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from agents.learning import offline, online, preference
from agents.learning.distributed import gathered, summed
from agents.learning.learner import Learner, Loss, Step
from agents.learning.views import View
from scenarios.jobs.training_keys import Tuning


@dataclass(frozen=True)
class Method:
    """The method and its settings, as a training file has them."""

    name: str
    groups: str = "turns"  # what GRPO compares: lines at one "turns", or whole "episodes"
    num_generations: int = 4  # dialogues that began alike
    tuning: Tuning = field(default_factory=Tuning)


@dataclass(frozen=True)
class Learnt:
    """The figures of one training step."""

    step: Step | None  # of the last update; None where no line had a loss
    numbers: Mapping[str, float]  # means over tokens: kl, entropy (nats), ratio; ratio_min, ratio_max
    skipped: int = 0  # groups of one line, or whose rewards were all equal
    tokens: int = 0  # of the lines with a loss, each counted once


def learn(learner: Learner, views: Sequence[View], method: Method) -> Learnt:
    """Makes `tuning.num_iterations` updates and returns their figures. Raises ValueError for a loss that is not finite.

    With several workers, each has to call it with all views, and it returns the figures of the whole batch.
    """
    seen: dict[str, list[torch.Tensor]] = {}
    how, skipped, more, advantages = method.tuning, 0, {}, []
    if method.name == "ppo":
        views, advantages, returns, values = online.by_value(learner, views, how)
        more = {"returns": returns, "values": values}
    elif method.name == "grpo" and method.groups == "turns":
        views, advantages, skipped = online.by_place(views, how)
    elif method.name == "grpo":
        views, advantages, skipped = online.by_dialogue(
            views, lambda view: view.conversation // method.num_generations, how
        )
    done, parts = None, []
    for _ in range(how.num_iterations):
        parts = _parts(learner, views, advantages, method, seen, more)
        done = learner.update(parts) if summed(len(parts), learner.device) else done  # with no part of its own too
    tokens = summed(sum(len(line.ids) for view, _ in parts for line in view.lines), learner.device)
    return Learnt(done, _numbers(seen), skipped, int(tokens))


def _parts(
    learner: Learner, views: Sequence[View], advantages: online.Advantages, method: Method, seen: dict, more: Mapping
) -> list[tuple[View, Loss]]:
    how = method.tuning
    if method.name in ("grpo", "ppo"):
        return online.parts(learner, views, advantages, how, seen=seen, **more) if views else []
    if method.name == "dpo":
        return preference.parts_dpo(learner, views, beta=how.beta)
    weights = {"desirable": how.desirable_weight, "undesirable": how.undesirable_weight}
    if method.name == "kto":
        return preference.parts_kto(learner, views, beta=how.beta, **weights)
    return offline.parts(views, method.name, alpha=how.alpha, **weights)


def _numbers(seen: Mapping[str, list[torch.Tensor]]) -> dict[str, float]:
    every = [
        worker_tensors
        for worker_tensors in gathered({name: torch.cat(tensors) for name, tensors in seen.items()})
        if worker_tensors
    ]
    if not every:
        return {}
    tensors = {name: torch.cat([worker_tensors[name] for worker_tensors in every]) for name in every[0]}
    return {
        "kl": float(tensors["kl"].mean()),
        "entropy": float(tensors["entropy"].mean()),
        "ratio": float(tensors["ratio"].mean()),
        "ratio_max": float(tensors["ratio"].max()),
        "ratio_min": float(tensors["ratio"].min()),
    }
