"""Whether a training fits into memory: what is counted, and that what a refusal names would fit."""

from __future__ import annotations

import re
from dataclasses import dataclass

import learners
import pytest
import tiny
import torch

from agents.models.chat_template import ChatFormat
from agents.models.info import EngineInfo
from agents.models.memory import learning_bytes, weight_bytes
from lab.dialogue import capacity, seats
from lab.training.memory_check import check_learning_memory
from scenarios.jobs.recipe import Recipe, played

pytestmark = pytest.mark.usefixtures("one_thread")
# words in and out; q, o; k, v; three of 64; norms
WEIGHTS = 128 * 32 * 2 + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32) + 32
# a rank of 8: so many numbers into and out of each of these
ADAPTER = 2 * 8 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))


@dataclass(frozen=True)
class Free:
    """An engine of which only its free bytes are asked."""

    bytes: int

    def info(self) -> EngineInfo:
        return EngineInfo("m", "cpu", "float32", 4096, WEIGHTS, ChatFormat.plain(), 1, self.bytes, "here cpu")


@pytest.fixture
def recipe(recipe, monkeypatch):
    """The user speaks three times of six, at most 8 tokens; its view has 100 tokens and 10 a turn besides what it said
    first.
    """
    monkeypatch.setattr(capacity, "longest_view", lambda scenario, *_: 100 + 10 * scenario.turns)
    return recipe


def check(recipe: Recipe, free: int) -> None:
    scenario = played(recipe)
    check_learning_memory(recipe, scenario, {seats.engine_name(scenario.seats["user"]): Free(free)}, [])


def refused(recipe: Recipe, free: int) -> str:
    with pytest.raises(ValueError) as caught:
        check(recipe, free)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def passing(tokens: int, said: int, checkpointing: bool = False) -> int:
    return learning_bytes(tiny.llama(), torch.float32, tokens, said, checkpointing)


def test_weights_gradients_and_moments_are_counted_as_a_learner_has_them(tiny_name):
    learner = learners.learner(tiny_name, r=8)
    trained = sum(parameter.numel() for parameter in learner.parameters)
    assert trained == ADAPTER and sum(p.numel() for p in learner.model.parameters()) == WEIGHTS + ADAPTER
    config = tiny.llama()
    assert weight_bytes(config, torch.float32, 8, "all-linear") == 4 * WEIGHTS + 16 * ADAPTER
    assert weight_bytes(config, torch.bfloat16, 8, "all-linear") == 2 * WEIGHTS + 16 * ADAPTER
    assert weight_bytes(config, torch.float32, 8, ["q_proj"]) == 4 * WEIGHTS + 16 * 2 * 8 * 64
    whole = learners.learner(tiny_name, full=True)  # its weights, the untouched, a gradient and two moments, in float32
    assert (
        sum(parameter.numel() for parameter in whole.parameters)
        == sum(p.numel() for p in whole.untouched.parameters())
        == WEIGHTS
    )
    assert (
        weight_bytes(config, torch.float32, 8, ["q_proj"], layers=[0])
        == 4 * WEIGHTS + 16 * 2 * 8 * 64 // config.num_hidden_layers
    )
    assert weight_bytes(config, torch.bfloat16, 8, "all-linear", full=True) == 20 * WEIGHTS


@pytest.mark.parametrize(
    ("overrides", "tokens", "said"),
    [
        ([], 160 + 3 * 3 * 8, 3 * 4 * 8),  # four lines at each of three places, one of them on the trunk
        (["method=ppo"], 160, 3 * 8),
        (["method=grpo", "groups=episodes"], 160, 3 * 8),
        (["groups=episodes"], 160 + 72, 96),  # which counts with GRPO alone
        (
            ["reward.qa=1"],
            160 + 72 + 2 * 4 * (8 + 12),
            96 + 2 * 4 * 8,
        ),  # two facts, four answers each behind their questions
        (["method=ppo", "reward.qa=1"], 160 + 2 * 20, 24 + 2 * 8),
        (["method=grpo", "groups=episodes", "reward.qa=1"], 160, 24),
    ],
)
def test_a_view_is_counted_as_it_is_played_to_the_last_byte(recipe, overrides, tokens, said):
    needed = 4 * WEIGHTS + 16 * ADAPTER + passing(tokens, said)
    check(recipe(*overrides), needed)
    assert f"of up to {tokens} tokens" in refused(recipe(*overrides), needed - 1)


def test_all_weights_trained_and_workers_beside_each_other_take_more(recipe):
    view = passing(232, 96)
    check(recipe("tuning.full=true"), 20 * WEIGHTS + view)
    assert "expected tuning.full=false or " in refused(recipe("tuning.full=true"), 20 * WEIGHTS + view - 1)
    three = recipe("workers=3")
    check(three, 3 * (4 * WEIGHTS + 16 * ADAPTER + view))
    error = refused(three, 3 * (4 * WEIGHTS + 16 * ADAPTER + view) - 1)
    assert error.startswith("each of 3 workers takes about ") and "expected workers=2 or " in error


def test_both_seats_learners_are_there_at_once(recipe):
    settings = recipe("seat=both", "overrides={seats.assistant.persona: sample}")
    scenario = played(settings)
    needed = 2 * (4 * WEIGHTS + 16 * ADAPTER) + passing(232, 96)  # one of them learns at a time
    assert scenario.seats["assistant"].max_tokens < scenario.seats["user"].max_tokens
    check(settings, needed)
    assert "a view of the user" in refused(settings, needed - 1)


def test_every_setting_that_a_refusal_names_would_fit_and_one_more_would_not(recipe):
    free = 4 * WEIGHTS + 16 * ADAPTER + passing(180, 40)
    named = re.findall(r"[a-z_.]+=\w+", refused(recipe(), free).partition("; expected ")[2])
    assert [setting.partition("=")[0] for setting in named] == [
        "tuning.gradient_checkpointing",
        "num_generations",
        "overrides.turns",
    ]
    for setting in named:
        check(recipe(setting), free)
        key, _, value = setting.partition("=")
        if value.isdigit():
            refused(recipe(f"{key}={int(value) + 1}"), free)


def test_where_no_setting_would_fit_none_is_named(recipe):
    assert refused(recipe(), 1000).endswith("; expected a smaller model, or more memory")


def test_a_device_that_does_not_say_what_is_free_is_not_judged(recipe):
    check(recipe(), 0)
