"""The keys of a training file: which seat is trained, on which dialogues, with which rewards, and how it is
evaluated.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from scenarios import plugins
from scenarios.fields import Strict
from scenarios.input_files import LARGEST, content
from scenarios.overrides import Plain, as_items, override
from scenarios.persona_schema import SAMPLE
from scenarios.personas import load_personas, named_personas
from scenarios.records import ASSISTANT, USER, derive_seed
from scenarios.scenario import Scenario, load_scenario
from scenarios.schema import JudgeName, SeatConfig, SingleJudge
from scenarios.suggestions import nearest_path
from scenarios.yaml_files import ScenarioError, dump, read_kind, validate

Offline = Literal["sft", "unlikelihood", "gold", "varmi"]
Preference = Literal["dpo", "kto"]
Online = Literal["grpo", "ppo"]
OFFLINE, PREFERENCE, ONLINE = get_args(Offline), get_args(Preference), get_args(Online)
CONTENT = ("collected.jsonl", "events.jsonl", "adapter_config.json", "adapter_model.safetensors")
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
AddedReward = Annotated[str, plugins.added_key(plugins.REWARDS)]
AddedWeights = dict[AddedReward, Weight]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Reward(Strict):
    """The weights of the parts of a line's reward.

    Each part is from -1 to 1; their weighted sum is divided by the sum of the weights that apply. Other keys are the
    weights of parts from installed packages.
    """

    model_config = ConfigDict(extra="allow")
    # narrower than pydantic's own
    __pydantic_extra__: AddedWeights = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    prompt_to_line: Weight = Field(default=0.0, description="contradicts nothing of its persona, says the judge")
    line_to_line: Weight = Field(default=0.0, description="contradicts none of the speaker's earlier lines")
    qa: Weight = Field(default=1.0, description="the answer to a Q&A probe names the fact")
    relevance: Weight = Field(default=0.0, description="near in meaning to the line that it answers")
    penalty: Weight = Field(
        default=1.0,
        description="subtracted for a line with card overlap, more than two recited facts, a person error, assistant "
        "style or no information",
    )
    judge: SingleJudge = "ledger"
    probes: int = Field(default=2, ge=0, description="Q&A probes per dialogue, each about one fact, on a side branch")

    @classmethod
    def added_keys(cls) -> list[str]:
        """Names of the parts from installed packages."""
        return plugins.added(plugins.REWARDS)

    def weights(self) -> dict[str, float]:
        """The weights above 0: those of the lab's parts in their order, then those of installed packages by name."""
        own = {name: getattr(self, name) for name in plugins.OWN[plugins.REWARDS]}
        return {
            name: weight for name, weight in (own | dict(sorted((self.model_extra or {}).items()))).items() if weight
        }


class HeldOut(Strict):
    """The personas and the paraphrase that training never uses."""

    personas: Share | list[str] = Field(
        default=0.5, description="a share of the personas that can be drawn, or their ids"
    )
    paraphrase: int = Field(
        default=1,
        ge=1,
        description="number of the question wording that only the evaluation uses; 0 is the wording of the dialogues",
    )


class Evaluation(Strict):
    """The evaluation after a training."""

    judge: Annotated[list[JudgeName], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)] = (
        Field(default=["ledger", "answer_reader"], min_length=1)
    )
    conversations: int = Field(default=12, ge=1)
    turns: int | None = Field(default=None, ge=1, description="null: as in training")
    as_learnt: bool = Field(default=True, description="also with the people and wordings of training")
    arms: dict[str, dict[str, Plain]] = Field(
        default={}, description="further arms of the base model: name -> dotted keys"
    )
    scenario: str | None = Field(
        default=None, description="another scenario to evaluate in as well; null for the one trained in"
    )


class Tuning(Strict):
    """Settings of the optimisation, named as in transformers' TrainingArguments, PEFT's LoraConfig and TRL's
    GRPOConfig, PPOConfig, DPOConfig and KTOConfig.
    """

    full: bool = Field(default=False, description="train all weights instead of an adapter")
    adapter: str | None = Field(
        default=None, description="PEFT folder to continue from, with the r and target_modules that it names"
    )
    r: int = Field(default=8, ge=1)
    lora_alpha: Positive = 16.0
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str | list[str] = "all-linear"
    train_from_depth: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="share of the layers, from below, that get no adapter"
    )
    learning_rate: Positive = 2e-4
    weight_decay: Weight = 0.0
    adam_beta1: Share = 0.9
    adam_beta2: Share = 0.999
    max_grad_norm: Positive = 1.0
    lr_scheduler_type: str = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    gradient_checkpointing: bool = False
    num_iterations: int = Field(default=1, ge=1, description="updates on the same lines")
    beta: Weight = Field(default=0.02, description="KL to the untouched model; of DPO and KTO the temperature")
    epsilon: Positive = 0.2
    epsilon_high: Positive = 0.2
    loss_type: Literal["grpo", "dr_grpo", "dapo"] = Field(
        default="dapo",
        description="tokens are averaged within each line (grpo), over the batch (dapo), or over the lines times "
        "the longest (dr_grpo, the least biased)",
    )
    scale_rewards: bool = Field(
        default=True,
        description="GRPO divides a group's rewards by their standard deviation, which turns the expected update away "
        "from the gradient, by more in small groups",
    )
    gamma: Share = Field(default=0.5, description="discount per turn of the trained seat")
    lam: Share = 0.95
    vf_coef: Weight = 0.1
    cliprange_value: Positive = 0.2
    alpha: Weight = Field(default=1.0, description="weight of unlikelihood")
    desirable_weight: Weight = Field(
        default=1.0,
        description="of a good line, in KTO, GOLD and VaRMI; where bad ones are many: how many for each good one",
    )
    undesirable_weight: Weight = 1.0


class Recipe(Strict):
    """A checked training file. After `load_recipe`, `scenario` and `data` are absolute paths."""

    name: str = Field(pattern=r"^\w[\w .-]*$")
    description: str = ""
    seed: int
    scenario: str = Field(description="path of the scenario that is played, relative to this file")
    overrides: dict[str, Plain] = Field(default={}, description="dotted keys of the scenario and their values here")
    seat: Literal["user", "assistant", "both"] = Field(
        default="user", description="who learns; both: in turn, a step each"
    )
    method: Literal[Offline, Preference, Online] = "grpo"
    max_steps: int = Field(default=40, ge=1, description="steps: play, reward, and num_iterations updates")
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
        return self

    def resolved_yaml(self) -> str:
        """A YAML text that `load_recipe` reads as an equal training, whatever folder it is saved in."""
        return dump(self.model_dump(mode="json"))

    def digest(self) -> str:
        """SHA-256, in hex, of everything that decides the training.

        That is the recipe, the scenarios as it plays them, all personas that may be drawn (by the content of their
        files), and the content of `data` and `tuning.adapter`.
        """
        scenario, other = played(self), self.evaluation.scenario
        people = [asdict(persona) for persona in load_personas(scenario.personas)]
        content = self.model_dump(mode="json") | {"scenario": scenario.digest(), "people": people}
        content |= {"elsewhere": load_scenario(other).digest()} if other else {}
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


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The training of a file with `key=value` overrides.

    Raises ScenarioError with the file, line and key, what is there and what was expected.
    """
    document = override(read_kind(path, "training"), overrides, Recipe, ("overrides",))
    recipe = validate(document, Recipe)
    folder = Path(path).parent
    places = {"scenario": recipe.scenario, "evaluation": recipe.evaluation.scenario}
    paths = {}
    for key, name in places.items():
        if name is not None:
            file = next((file for file in (folder / name, Path(name)) if file.is_file()), None)
            if file is None:
                hint = nearest_path(folder / name) or nearest_path(name)
                raise document.error(
                    f"is {name!r}; expected the path of a scenario file, {folder / name} is none{hint}", (key,)
                )
            paths[key] = str(file.resolve())
    recipe = recipe.model_copy(
        update={
            "scenario": paths["scenario"],
            "data": [_absolute(name) for name in recipe.data],
            "tuning": recipe.tuning.model_copy(
                update={"adapter": recipe.tuning.adapter and _absolute(recipe.tuning.adapter)}
            ),
            "evaluation": recipe.evaluation.model_copy(update={"scenario": paths.get("evaluation")}),
        }
    )
    split(recipe)
    _trainable(recipe)
    _worded(recipe)
    return recipe


def _absolute(name: str) -> str:
    return str(Path(name).expanduser().resolve())


def _worded(recipe: Recipe) -> None:
    """Raises ScenarioError where a fact has no paraphrase that can be held out."""
    people = load_personas(played(recipe).personas)
    least = min(
        (fact for person in people for fact in person.facts), key=lambda fact: len(fact.slot.questions), default=None
    )
    if least and len(least.slot.questions) <= recipe.held_out.paraphrase:
        raise ScenarioError(
            f"is {recipe.held_out.paraphrase}, but {least.id!r} has {len(least.slot.questions)} wordings of its "
            "question, counted from 0; expected a smaller one, or more wordings in the personas' files",
            ("held_out", "paraphrase"),
        )


def _trainable(recipe: Recipe) -> None:
    """Raises ScenarioError where a seat to be trained is not spoken by a local model, or always has the same
    persona.
    """
    scenario = played(recipe)
    for seat in recipe.seats():
        spec = scenario.seats[seat]
        if speaker := other_speaker(spec):
            cure = "tuning.adapter, to go on from it" if speaker == "an adapter" else "a model that is trained here"
            raise ScenarioError(f"is to learn, but {speaker} speaks for the {seat}; expected {cure}", ("seat",))
        if spec.steer:
            raise ScenarioError(f"is to learn, but the {seat} is steered; expected no seats.{seat}.steer", ("seat",))
        if spec.temperature == 0 and not recipe.data:
            raise ScenarioError(
                f"is to learn from lines that differ, but the {seat} always says the likeliest one; expected "
                f"seats.{seat}.temperature above 0",
                ("seat",),
            )
        if spec.persona != SAMPLE and not recipe.data:
            who = spec.persona if isinstance(spec.persona, str) else spec.persona.id
            raise ScenarioError(
                f"is to learn, but the {seat} is always {who!r}; expected overrides with "
                f"seats.{seat}.persona: sample, so that some people can be held out",
                ("seat",),
            )


def other_speaker(spec: SeatConfig) -> str:
    """Who speaks in a seat in place of an unchanged local model, in words; "" where such a model speaks."""
    return (
        "a script"
        if spec.script
        else "a server"
        if spec.endpoint
        else "an adapter"
        if spec.adapter or ":" in spec.model
        else ""
    )


def played(recipe: Recipe, **values: object) -> Scenario:
    """The scenario as the training plays it; `values` by dotted key override it. Raises ScenarioError."""
    values_by_key = (
        recipe.overrides | {"dtype": recipe.dtype, "device": recipe.device, "measure.paraphrase": 0} | values
    )
    return load_scenario(recipe.scenario, as_items(values_by_key))


def split(recipe: Recipe) -> tuple[list[str], list[str]]:
    """The ids of the personas for training, and those of the held-out ones.

    Raises ScenarioError where either is empty or a given id cannot be drawn.
    """
    scenario = played(recipe)
    named = {persona.id for persona in named_personas(scenario).values()}
    known = [
        persona.id
        for persona in load_personas(scenario.personas)
        if persona.id not in named and (scenario.persona_pool is None or persona.id in scenario.persona_pool)
    ]
    wanted = recipe.held_out.personas
    if isinstance(wanted, list):
        if strange := [name for name in wanted if name not in known]:
            raise ScenarioError(
                f"holds {strange[0]!r}; expected ids of personas that can be drawn: {', '.join(known)}",
                ("held_out", "personas"),
            )
        out = wanted
    else:
        shuffled = random.Random(derive_seed(recipe.seed, "held out")).sample(known, len(known))
        out = shuffled[: round(wanted * len(known))]
    kept = [name for name in known if name not in out]
    if not kept or not out:
        raise ScenarioError(
            f"leaves {len(kept)} personas to learn with and {len(out)} to evaluate with; expected at least one of each",
            ("held_out", "personas"),
        )
    return kept, out
