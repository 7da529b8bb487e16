"""A training file as a whole, and the scenarios that it plays."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from scenarios.fields import Strict
from scenarios.input_files import LARGEST, content
from scenarios.jobs.training_keys import (
    OFFLINE,
    ONLINE,
    PREFERENCE,
    Curriculum,
    Evaluation,
    HeldOut,
    Offline,
    Online,
    Preference,
    Reward,
    Scenarios,
    Tuning,
    WeightedScenario,
)
from scenarios.overrides import Plain, as_items, takes
from scenarios.personas import load_personas
from scenarios.records import ASSISTANT, USER
from scenarios.scenario import Scenario, load_scenario
from scenarios.yaml_files import dump, read_kind

CONTENT = ("collected.jsonl", "events.jsonl", "adapter_config.json", "adapter_model.safetensors")


class Recipe(Strict):
    """A checked training file. After `load_recipe`, paths of scenarios and `data` are absolute."""

    name: str = Field(pattern=r"^\w[\w .-]*$")
    description: str = ""
    seed: int
    scenario: Scenarios = Field(
        min_length=1,
        description="path of the scenario that is played, relative to this file; or a list of paths and of "
        "{scenario, weight, overrides}",
    )
    overrides: dict[str, Plain] = Field(
        default={}, description="dotted keys of the scenarios, as far as they have them, and their values here"
    )
    curriculum: Curriculum | None = Field(default=None, description="dialogues that grow over the first steps")
    seat: Literal["user", "assistant", "both"] = Field(
        default="user", description="who learns; both: in turn, a step each"
    )
    method: Literal[Offline, Preference, Online] = "grpo"
    max_steps: int = Field(default=40, ge=1, description="steps: play, reward, and num_iterations updates")
    learn_tokens: int | None = Field(
        default=None,
        ge=1,
        description="ends the training after the step with which as many tokens of all seats have carried loss, if "
        "before max_steps, over which the learning rate falls",
    )
    conversations: int = Field(default=8, ge=1, description="dialogues a step")
    num_generations: int = Field(
        default=4, ge=1, description="lines sampled at each place, or dialogues that begin alike"
    )
    groups: Literal["turns", "episodes"] = Field(
        default="turns", description="what GRPO compares: lines said at the same turn, or whole dialogues"
    )
    data: list[str] = Field(
        default=[], description="runs, trainings and chats to learn from, offline; none: the untouched model plays"
    )
    passes: int = Field(
        default=1,
        ge=1,
        description="offline: how often the dialogues that the untouched model plays are learnt from; it plays as many "
        "as max_steps / passes steps have",
    )
    reward: Reward = Field(default_factory=Reward)
    tuning: Tuning = Field(default_factory=Tuning)
    held_out: HeldOut = Field(default_factory=HeldOut)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    tripwires: Literal["stop", "log"] = Field(
        default="stop",
        description="stop: a tripwire out of bounds over five steps on average, or offline at a checkpoint, ends the "
        "training",
    )
    async_rollouts: bool = Field(
        default=False,
        description="play the next step's dialogues with weights one step old, while the learner uses this step's",
    )
    workers: int = Field(
        default=1,
        ge=1,
        description="Ray processes that share the dialogues of an update; the result equals that of one process",
    )
    save_steps: int = Field(default=10, ge=1, description="steps between two checkpoints")
    report_to: Literal["none", "tensorboard", "wandb"] = "none"
    dtype: Literal["auto", "bfloat16", "float32", "float16"] = "auto"
    device: str = "auto"

    def seats(self) -> tuple[str, ...]:
        """The seats that are trained, in their order."""
        return (USER, ASSISTANT) if self.seat == "both" else (self.seat,)

    def turns(self, step: int, turns: int) -> int:
        """The lines per dialogue in a step, counted from 0, of a scenario with that many `turns`."""
        return self.curriculum.at(step, turns) if self.curriculum else turns

    def expected_steps(self, learnt: float) -> int:
        """The steps of the training where each learns from that many tokens, of which `learn_tokens` may end it."""
        if not (self.learn_tokens and learnt):
            return self.max_steps
        return min(self.max_steps, math.ceil(self.learn_tokens / learnt))

    def batches_to_collect(self) -> int:
        """The batches of dialogues that the untouched model plays for each seat: those of one pass."""
        return math.ceil(self.max_steps / (self.passes * len(self.seats())))

    def compares_episodes(self) -> bool:
        """Whether GRPO compares whole dialogues, and not the lines of a turn."""
        return self.method == "grpo" and self.groups == "episodes"

    @model_validator(mode="after")
    def _makes_sense(self) -> Recipe:
        if self.method == "grpo" and self.num_generations < 2:
            raise ValueError("expected num_generations of 2 or more: GRPO compares lines with each other")
        if self.tuning.train_from_depth and isinstance(self.tuning.target_modules, str):
            raise ValueError(
                "expected tuning.target_modules as a list, such as [q_proj, v_proj], beside tuning.train_from_depth"
            )
        if self.tuning.full and self.tuning.adapter:
            raise ValueError(
                "expected tuning.adapter or tuning.full, not both: all weights are trained from the model's own"
            )
        if self.data and self.method in ONLINE:
            raise ValueError(
                f"expected no data with method {self.method!r}, which learns from dialogues of its own; offline are: "
                f"{', '.join((*OFFLINE, *PREFERENCE))}"
            )
        if self.tuning.reward_to_go and (self.method != "grpo" or self.groups != "turns" or self.tuning.scale_rewards):
            raise ValueError(
                "expected tuning.reward_to_go with method grpo, groups turns and tuning.scale_rewards false: other "
                "methods credit later turns anyway, and rewards that each group divides by its own deviation cannot be "
                "added up over turns"
            )
        if self.passes > 1 and (self.data or self.method in ONLINE):
            raise ValueError(
                "expected passes with an offline method that plays its own dialogues; stored ones (data) are gone "
                "through as often as max_steps demands, and online methods play new ones in each step"
            )
        if self.passes > self.max_steps:
            raise ValueError(f"expected passes of at most max_steps, which is {self.max_steps}")
        if self.data and self.curriculum:
            raise ValueError("expected no curriculum beside data, with which no dialogue is played")
        return self

    def resolved_yaml(self) -> str:
        """A YAML text that `load_recipe` reads as an equal training, whatever folder it is saved in."""
        return dump(self.model_dump(mode="json"))

    def digest(self) -> str:
        """SHA-256, in hex, of everything that decides the training.

        That is the recipe, the scenarios as it plays them, all personas that may be drawn (by the content of their
        files), and the content of `data` and `tuning.adapter`.
        """
        scenarios = all_played(self)
        people = [asdict(persona) for persona in load_personas(persona_files(scenarios))]
        content = self.model_dump(mode="json")
        content |= {"scenarios": [scenario.digest() for scenario in scenarios], "people": people}
        content |= {"evaluated": [load_scenario(path).digest() for path in self.evaluation.scenario]}
        content |= {"files": [_content(Path(name)) for name in (*self.data, self.tuning.adapter) if name]}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _content(path: Path) -> str:
    """SHA-256, in hex, of a file, or of those files of a run, training or adapter folder from which a training
    learns.
    """
    files = [path] if path.is_file() else [path / name for name in CONTENT if (path / name).is_file()]
    return hashlib.sha256(
        b"".join(hashlib.sha256(content(file, LARGEST, "a file to learn from")).digest() for file in files)
    ).hexdigest()


def played(recipe: Recipe, number: int = 0, **values: object) -> Scenario:
    """A scenario of the training, by its number in the list, as the training plays it; `values` by dotted key override
    it. Raises ScenarioError.
    """
    here = recipe.scenario[number]
    values_by_key = (
        shared_overrides(recipe, number)
        | here.overrides
        | {"dtype": recipe.dtype, "device": recipe.device, "measure.paraphrase": 0}
        | values
    )
    return load_scenario(here.scenario, as_items(values_by_key))


def all_played(recipe: Recipe) -> list[Scenario]:
    """The scenarios of the training as it plays them. Raises ScenarioError."""
    return [played(recipe, number) for number in range(len(recipe.scenario))]


def elsewhere(recipe: Recipe, path: str, **values: object) -> Scenario:
    """A scenario that is only evaluated in, with the settings of the training. Raises ScenarioError."""
    there = [WeightedScenario(scenario=path)]
    return played(recipe.model_copy(update={"scenario": there, "overrides": {}}), 0, **values)


def shared_overrides(recipe: Recipe, number: int) -> dict[str, object]:
    """The recipe's own overrides for one of its scenarios: all for a single one, else those whose key it has."""
    if len(recipe.scenario) == 1 or not recipe.overrides:
        return recipe.overrides
    document = read_kind(recipe.scenario[number].scenario, "scenario")
    return {key: value for key, value in recipe.overrides.items() if takes(document, key, Scenario)}


def persona_files(scenarios: Sequence[Scenario]) -> list[str]:
    """The persona files of the scenarios, each once."""
    return list(dict.fromkeys(path for scenario in scenarios for path in scenario.personas))
