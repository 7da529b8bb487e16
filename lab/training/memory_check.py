"""Whether a training fits into memory, and which settings would make it fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from agents.engine.protocol import Engine
from agents.models import loading
from agents.models.adapter_files import read_config, upper_layers
from agents.models.memory import learning_bytes, weight_bytes
from lab.dialogue import capacity, seats
from lab.training.reward_parts import has_probes
from scenarios.jobs.recipe import Recipe
from scenarios.scenario import Scenario

GIB = 2**30


@dataclass(frozen=True)
class MemoryPlan:
    """What decides the memory of a training; `beside` is the number of a learner's workers that share one memory."""

    recipe: Recipe
    scenario: Scenario
    beside: int


def check_learning_memory(
    recipe: Recipe, scenario: Scenario, engines: Mapping[str, Engine], cast: Sequence[Mapping]
) -> None:
    """Raises ValueError where a learner does not fit into the memory that the engines leave free.

    It needs its weights, gradients and optimiser state, and a pass over the longest view with all its side branches.
    The message names settings that would fit.
    """
    plan = MemoryPlan(recipe, scenario, _beside(recipe, len(engines)))
    for seat in recipe.seats():
        info = engines[seats.engine_name(scenario.seats[seat])].info()

        def needed_bytes(plan: MemoryPlan, seat: str = seat) -> float:
            return plan.beside * (_kept(plan) + _passing(plan, seat, engines, cast)[1])

        if needed_bytes(plan) > info.free_bytes > 0:
            cures = [
                next((override for override, lighter in steps if needed_bytes(lighter) <= info.free_bytes), None)
                for steps in _cures(plan)
            ]
            expected = " or ".join(filter(None, cures)) or "a smaller model, or more memory"
            tokens, bytes_ = _passing(plan, seat, engines, cast)
            each = f"each of {plan.beside} workers" if plan.beside > 1 else "the learner"
            raise ValueError(
                f"{each} takes about {_kept(plan) / GIB:.2g} GiB for weights and what goes with them and "
                f"{bytes_ / GIB:.2g} GiB to learn from a view of the {seat}, of up to {tokens} tokens, and "
                f"{info.free_bytes / GIB:.2g} GiB is free on {info.device}; expected {expected}"
            )


def _cures(plan: MemoryPlan) -> Iterator[Iterator[tuple[str, MemoryPlan]]]:
    """Changes that need less memory, as (override, plan), grouped by setting and each from the smallest change up."""
    recipe, tuning = plan.recipe, plan.recipe.tuning

    def tuned(key: str, value: bool) -> Iterator[tuple[str, MemoryPlan]]:
        if getattr(tuning, key) != value:
            changed = recipe.model_copy(update={"tuning": tuning.model_copy(update={key: value})})
            yield f"tuning.{key}={str(value).lower()}", replace(plan, recipe=changed)

    yield ((f"workers={n}", replace(plan, beside=n)) for n in range(plan.beside - 1, 0, -1))
    yield tuned("full", False)
    yield tuned("gradient_checkpointing", True)
    least = 2 if recipe.method in ("grpo", "dpo") else 1
    yield (
        (f"num_generations={n}", replace(plan, recipe=recipe.model_copy(update={"num_generations": n})))
        for n in range(recipe.num_generations - 1, least - 1, -1)
    )
    yield (
        (f"overrides.turns={n}", replace(plan, scenario=plan.scenario.model_copy(update={"turns": n})))
        for n in range(plan.scenario.turns - 1, 0, -1)
    )


def _kept(plan: MemoryPlan) -> int:
    """The bytes that one worker of each seat's learner needs independent of its data."""
    tuning = plan.recipe.tuning
    modules = tuning.target_modules if isinstance(tuning.target_modules, str) else tuple(tuning.target_modules)
    return sum(
        _weights(
            plan.scenario.seats[seat].model,
            plan.recipe.dtype,
            plan.recipe.device,
            tuning.full,
            tuning.r,
            modules,
            tuning.train_from_depth,
            tuning.adapter,
        )
        for seat in plan.recipe.seats()
    )


@cache
def _weights(
    model: str,
    dtype: str,
    device: str,
    full: bool,
    r: int,
    modules: str | tuple[str, ...],
    train_from_depth: float,
    adapter: str | None,
) -> int:
    config = _config(model)
    layers = upper_layers(config, train_from_depth)
    if adapter and not full:  # whose own r, modules and layers count
        _, worn = read_config(adapter)
        r, layers = getattr(worn, "r", r), getattr(worn, "layers_to_transform", None)
        named = getattr(worn, "target_modules", None) or modules
        modules = named if isinstance(named, str) else tuple(named)
    return weight_bytes(
        config, _dtype(dtype, device), r, modules if isinstance(modules, str) else list(modules), full, layers
    )


def _passing(plan: MemoryPlan, seat: str, engines: Mapping[str, Engine], cast: Sequence[Mapping]) -> tuple[int, int]:
    """(tokens of the seat's longest view, bytes of a forward and backward pass over it)."""
    recipe, scenario, spec = plan.recipe, plan.scenario, plan.scenario.seats[seat]
    alike = recipe.compares_episodes()
    # lines at a place, see lab.training.rollouts
    each = 1 if alike or recipe.method == "ppo" else recipe.num_generations
    probes = recipe.reward.probes * each if has_probes(recipe) else 0
    own = -(-scenario.turns // 2)
    trunk = capacity.longest_view(scenario, seat, engines, cast)
    tokens = trunk + own * (each - 1) * spec.max_tokens + probes * (spec.max_tokens + capacity.SPARE)
    said = (own * each + probes) * spec.max_tokens
    text = _config(spec.model).get_text_config()
    return tokens, learning_bytes(
        text, _dtype(recipe.dtype, recipe.device), tokens, said, recipe.tuning.gradient_checkpointing
    )


def _beside(recipe: Recipe, engines: int) -> int:
    if recipe.workers == 1:
        return 1
    from lab.dialogue.cluster import shares

    share = shares(engines, recipe.workers * len(recipe.seats()), recipe.device)[1]
    return min(recipe.workers, round(1 / share)) if share else recipe.workers


def _config(model: str):
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(loading.local_folder(model), trust_remote_code=False)


def _dtype(dtype: str, device: str):
    return loading.choose_dtype(dtype, loading.choose_device(device))
