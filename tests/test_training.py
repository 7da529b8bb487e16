"""The loop of a training, on a small model: where it leaves what was learnt when it cannot go on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import learners
import pytest
import torch
from corpora import Parity, folder, recipes

from agents.engine import LocalEngine
from agents.models import load
from lab.training import Training, latest, learner, steps_of
from lab.wiring import engine_name
from scenarios.recipe import Recipe, played

pytestmark = pytest.mark.usefixtures("one_thread")
ONLINE = ("method=grpo", "conversations=2", "num_generations=2", "overrides.turns=2", "reward.penalty=0")


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="module")
def engine(name, one_thread):
    return LocalEngine(load(name, "float32", "cpu"))


@pytest.fixture
def recipe(tmp_path, name):
    return recipes(tmp_path, name)


class Failing(Parity):
    """As `Parity`, but for one step's lines, of which it says something that is no number."""

    def __init__(self, step: int):
        super().__init__()
        self.left = step

    def judge(self, pairs):
        self.left -= 1
        return [replace(row, p_inconsistent=math.nan) if self.left == -1 else row for row in super().judge(pairs)]


def training(recipe: Recipe, engine, at: Path, judge) -> Training:
    at.mkdir(exist_ok=True)
    scenario = played(recipe)
    return Training(recipe, scenario, {engine_name(scenario.seats["user"]): engine}, {"user": learner(recipe, scenario, "user")}, judge,
                    {"embed": None, "logprobs": None}, at)


def stopped(one: Training, meanwhile: Callable[[dict], None] = lambda event: None) -> tuple[int, str]:
    """After how many steps the training fails, and what it says."""
    done = 0
    with pytest.raises(ValueError) as caught:
        for event in one.steps():
            done += event["event"] == "step"
            meanwhile(event)
    assert "\n" not in str(caught.value)
    return done, str(caught.value)


def test_a_loss_that_is_no_number_leaves_the_state_before_it_as_a_checkpoint_and_says_where(tmp_path, recipe, engine):
    one = training(recipe(*ONLINE, "max_steps=3"), engine, tmp_path / "out", Failing(2))
    done, told = stopped(one)
    assert done == 2 and told.startswith("step 3: the loss is nan") and told.endswith(
        f"; the last good checkpoint is {tmp_path / 'out' / 'checkpoints' / 'step-000002'}, after step 2")
    again = training(one.recipe, engine, tmp_path / "out", Parity())
    again.restore(latest(tmp_path / "out"))
    weights = learners.weights(again.students["user"])
    assert torch.equal(weights, learners.weights(one.students["user"])) and weights.isfinite().all() and again.students["user"].steps > 0
    assert [event["event"] for event in again.steps(2)] == ["step", "checkpoint"]


def test_a_checkpoint_that_is_there_already_is_named_and_not_written_again(tmp_path, recipe, engine):
    one, kept = training(recipe(*ONLINE, "max_steps=2", "save_steps=1"), engine, tmp_path / "out", Failing(1)), []

    def note(event: dict) -> None:
        if event["event"] == "checkpoint":
            kept.append(latest(tmp_path / "out").stat())

    assert stopped(one, note)[1].endswith("step-000001, after step 1") and kept == [latest(tmp_path / "out").stat()]


def test_a_first_step_that_fails_leaves_no_checkpoint_and_says_so(tmp_path, recipe, engine):
    done, told = stopped(training(recipe(*ONLINE), engine, tmp_path / "out", Failing(0)))
    assert done == 0 and told.endswith("; there is no checkpoint from before") and latest(tmp_path / "out") is None


@pytest.mark.parametrize("spoken", [True, False])
def test_weights_that_are_no_numbers_are_not_saved_and_the_checkpoint_before_them_is_named(tmp_path, recipe, engine, spoken):
    """Spoilt after step 2 is saved. `spoken`: the engine speaks with them, else only the learner reads with them."""
    one = training(recipe(*ONLINE, "max_steps=4", "save_steps=1"), engine, tmp_path / "out", Parity())

    def spoil(event: dict) -> None:
        if event == {"event": "checkpoint", "step": 2}:
            with torch.no_grad():
                one.students["user"].parameters[0].fill_(math.nan)
            if spoken:
                one.install()

    done, told = stopped(one, spoil)
    assert done == 2 and steps_of(latest(tmp_path / "out")) == 2
    assert ("spoke with likelihoods that are no numbers" in told) == spoken
    # with what was spoken the weights after step 2 may be what is wrong; lines that were read to the end clear them
    assert told.endswith("step-000001, after step 1" if spoken else "step-000002, after step 2")


def test_the_last_checkpoint_is_the_one_after_most_steps_and_whole(tmp_path):
    for name in ("step-000002", "step-1000000", "step-999999", ".step-1000001.part"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [latest(tmp_path, most).name for most in (math.inf, 999_999, 5)] == ["step-1000000", "step-999999", "step-000002"]
    assert latest(tmp_path, 1) is None and latest(tmp_path / "elsewhere") is None
