"""The keys of a training file below its top: scenarios, reward, what is held out, evaluation, and optimisation."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from scenarios import plugins
from scenarios.fields import Strict, Text, as_list
from scenarios.overrides import Plain
from scenarios.schema import JudgeName, SingleJudge

Offline = Literal["sft", "unlikelihood", "gold", "varmi"]
Preference = Literal["dpo", "kto"]
Online = Literal["grpo", "ppo"]
OFFLINE, PREFERENCE, ONLINE = get_args(Offline), get_args(Preference), get_args(Online)
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
AddedReward = Annotated[str, plugins.added_key(plugins.REWARDS)]
AddedWeights = dict[AddedReward, Weight]
NO_SINGLE_FACTS = ("likelihood", "llm")  # judges that judge a persona as a whole
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class WeightedScenario(Strict):
    """A scenario of a training, with its share of the dialogues."""

    scenario: Text = Field(description="path of the scenario that is played, relative to this file")
    weight: Positive = Field(default=1.0, description="share of the dialogues, beside the weights of the others")
    overrides: dict[str, Plain] = Field(default={}, description="dotted keys of this scenario alone")


def _weighted(value: Any) -> Any:
    """A path, or a list of paths and mappings, as a list of mappings."""
    if isinstance(value, str | dict):
        value = [value]
    return (
        [{"scenario": each} if isinstance(each, str) else each for each in value] if isinstance(value, list) else value
    )


Scenarios = Annotated[list[WeightedScenario], BeforeValidator(_weighted)]


class Curriculum(Strict):
    """Dialogues that grow over the first steps."""

    turns: int = Field(ge=1, description="lines per dialogue in the first step")
    steps: int = Field(ge=1, description="steps after which dialogues are as long as their scenario says")

    def at(self, step: int, turns: int) -> int:
        """The lines per dialogue in a step, counted from 0, of a scenario with that many `turns`: linear in the step,
        and never more than `turns`.
        """
        grown = self.turns + (turns - self.turns) * min(1.0, step / self.steps)
        return min(turns, round(grown))


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
    claims: Weight = Field(
        default=0.0, description="states a fact of its persona, says the judge, and rightly; below 0: contradicts one"
    )
    relevance: Weight = Field(default=0.0, description="near in meaning to the line that it answers")
    penalty: Weight = Field(
        default=1.0,
        description="subtracted for a line with card overlap, more than two recited facts, a person error, assistant "
        "style or no information",
    )
    judge: SingleJudge = "ledger"
    probes: int = Field(default=2, ge=0, description="Q&A probes per dialogue, each about one fact, on a side branch")

    @model_validator(mode="after")
    def _names_facts(self) -> Reward:
        if self.claims and self.judge in NO_SINGLE_FACTS:
            raise ValueError(
                f"expected another judge than {self.judge!r} beside claims: one that judges single facts, such as nli"
            )
        return self

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
    """The personas, the slots and the paraphrase that training never uses."""

    personas: Share | list[str] = Field(
        default=0.5, description="a share of the personas that can be drawn, or their ids"
    )
    slots: Share | list[str] = Field(
        default=[],
        description="ids of slots, or a share of them: facts of these are never asked for and never rewarded",
    )
    paraphrase: int = Field(
        default=1,
        ge=1,
        description="number of the question wording that only the evaluation uses; 0 is the wording of the dialogues",
    )


class Evaluation(Strict):
    """The evaluation after a training."""

    judge: Annotated[list[JudgeName], BeforeValidator(as_list)] = Field(
        default=["ledger", "answer_reader"], min_length=1
    )
    conversations: int = Field(default=12, ge=1)
    turns: int | None = Field(default=None, ge=1, description="null: as in training")
    as_learnt: bool = Field(default=True, description="also with the people and wordings of training")
    arms: dict[str, dict[str, Plain]] = Field(
        default={}, description="further arms of the base model: name -> dotted keys"
    )
    scenario: Annotated[list[Text], BeforeValidator(lambda value: [] if value is None else as_list(value))] = Field(
        default=[],
        description="other scenarios to evaluate in as well, in which nothing is trained: one path or a list",
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
    reward_to_go: bool = Field(
        default=False,
        description="GRPO by turns: the line that a dialogue went on from is credited with later turns too, discounted "
        "by gamma",
    )
    lam: Share = 0.95
    vf_coef: Weight = 0.1
    cliprange_value: Positive = 0.2
    alpha: Weight = Field(default=1.0, description="weight of unlikelihood")
    desirable_weight: Weight = Field(
        default=1.0,
        description="of a good line, in KTO, GOLD and VaRMI; where bad ones are many: how many for each good one",
    )
    undesirable_weight: Weight = 1.0
