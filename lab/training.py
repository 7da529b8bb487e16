"""The loop of a training: play, reward, update, again; and the examination before and after.

It yields events (plain dicts) and saves nothing but checkpoints. Step n's dialogues, rewards and update follow from the recipe, n and the
weights before it alone, so that a training taken up from a checkpoint goes on as if it had never stopped (exactly so in float32).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.learning.learner import Learner
from agents.learning.learner import Tuning as LearnerTuning
from agents.learning.methods import Method, learn
from agents.learning.online import Online
from agents.learning.views import View
from agents.protocol import Engine
from lab import rewards, rollouts
from lab.rollouts import TRAINED
from metrics.judges import Judge
from metrics.retrieval import Embed
from scenarios.recipe import ONLINE, Recipe, split
from scenarios.schema import Scenario

LEARNER_KEYS = LearnerTuning.__dataclass_fields__.keys()


def learner(recipe: Recipe, scenario: Scenario) -> Learner:
    """The learner that the recipe asks for, on the model of the trained seat."""
    told = recipe.tuning.model_dump()
    modules = told["target_modules"]
    told["target_modules"] = modules if isinstance(modules, str) else tuple(modules)
    tuning = LearnerTuning(**{key: told[key] for key in LEARNER_KEYS if key in told}, max_steps=recipe.max_steps * recipe.tuning.num_iterations)
    return Learner(scenario.seats[recipe.seat].model, tuning, dtype=recipe.dtype, device=recipe.device, seed=recipe.seed,
                   value_head=recipe.method == "ppo")


def method(recipe: Recipe) -> Method:
    tuning = recipe.tuning
    told = {name: getattr(tuning, name) for name in Method.__dataclass_fields__ if hasattr(tuning, name)}
    how = Online(**{name: getattr(tuning, name) for name in Online.__dataclass_fields__})
    return Method(recipe.method, recipe.groups, recipe.num_generations, online=how, **told)


@dataclass
class Training:
    """Everything that a recipe needs to be carried out."""

    recipe: Recipe
    engines: Mapping[str, Engine]
    base: str  # the engine of the trained seat's model
    learner: Learner
    judge: Judge
    embed: Embed | None
    folder: Path

    def steps(self, first: int = 0) -> Iterator[dict]:
        """A `step` event each; a checkpoint every `save_steps` and after the last."""
        recipe, learn_from = self.recipe, split(self.recipe)[0]
        self._install()
        stored = None if recipe.method in ONLINE else self._collected(learn_from)
        for step in range(first, recipe.max_steps):
            began = time.perf_counter()
            if stored is None:
                views, told = self._played(step, learn_from, TRAINED)
            else:
                views, told = _portion(stored, step, recipe.conversations), {}
            played = time.perf_counter()
            learnt = learn(self.learner, views, method(recipe))
            done = learnt.step
            self._install()
            yield {"event": "step", "step": step, **told, **learnt.numbers, "skipped": learnt.skipped, "loss": done.loss if done else None,
                   "grad_norm": done.grad_norm if done else None, "learning_rate": done.learning_rate if done else None,
                   "tokens": sum(len(line.ids) for view in views for line in view.lines),
                   "seconds_play": played - began, "seconds_learn": time.perf_counter() - played, "samples": _samples(views)}
            if (step + 1) % recipe.save_steps == 0 or step + 1 == recipe.max_steps:
                self.learner.save(self.folder / "checkpoints" / f"step-{step + 1:06d}")
                yield {"event": "checkpoint", "step": step + 1}

    def _played(self, step: int, drawn: Sequence[str], adapter: str | None) -> tuple[list[View], dict[str, float]]:
        found = rollouts.talks(self.recipe, self.engines, self.recipe.seat, step, drawn, {self.recipe.seat: adapter})
        if not found:
            raise ValueError(f"step {step}: every dialogue failed; expected fewer turns or shorter lines")
        return rewards.rewarded(found, self.recipe.reward, self.judge, self.embed)

    def _collected(self, drawn: Sequence[str]) -> list[View]:
        """What the untouched model says in as many dialogues as training has steps for, each read once."""
        return [view for step in range(self.recipe.max_steps) for view in self._played(step, drawn, None)[0]]

    def _install(self) -> None:
        self.engines[self.base].install(TRAINED, *self.learner.adapter())


def _portion(stored: Sequence[View], step: int, size: int) -> list[View]:
    start = step * size % len(stored)
    return [stored[(start + place) % len(stored)] for place in range(min(size, len(stored)))]


def _samples(views: Sequence[View]) -> dict[str, str]:
    """The best and the worst line of the step, in words."""
    lines = sorted((line for view in views for line in view.lines if line.reward is not None), key=lambda line: line.reward)
    return {"worst": lines[0].text, "best": lines[-1].text} if lines else {}
