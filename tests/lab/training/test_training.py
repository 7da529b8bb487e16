"""The loop of a training, on a small model: what its steps tell, and where it leaves what was learnt when it cannot go
on.
"""

from __future__ import annotations

import math
import resource
import signal
import statistics
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import learners
import pytest
import torch
from corpora import Parity

from agents.learning.views import Sampled, View, at_places
from lab.dialogue import judges
from lab.dialogue.seats import engine_name
from lab.training import dataset, rewards
from lab.training.collected import COLLECTED, read_views
from lab.training.loop import PATIENCE, TrainingLoop, latest_checkpoint, learner, steps_of
from lab.training.runner import step_columns
from scenarios.jobs.recipe import Recipe, played
from scenarios.jobs.training_keys import Reward

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = ("conversations=2", "num_generations=2", "overrides.turns=2", "reward.penalty=0")


class Failing(Parity):
    """As `Parity`; in one step, counted from 0, rewards reach the learner as NaN."""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def spoil(self, loop: TrainingLoop) -> None:
        learn = loop._learn

        def spoiled(step, batch):
            if step == self.step:
                views = [
                    replace(view, lines=tuple(replace(line, reward=math.nan) for line in view.lines))
                    for view in batch.views
                ]
                batch = replace(batch, views=views)
            return learn(step, batch)

        loop._learn = spoiled


def training(recipe: Recipe, engine, at: Path, judge) -> TrainingLoop:
    at.mkdir(exist_ok=True)
    scenario = played(recipe)
    loop = TrainingLoop(
        recipe,
        scenario,
        {engine_name(scenario.seats["user"]): engine},
        {"user": learner(recipe, scenario, "user")},
        judge,
        {"embed": None, "logprobs": None},
        at,
    )
    if isinstance(judge, Failing):
        judge.spoil(loop)
    return loop


def stopped(loop: TrainingLoop, meanwhile: Callable[[dict], None] = lambda event: None) -> tuple[int, str]:
    """After how many steps the training fails, and what it says."""
    done = 0
    with pytest.raises(ValueError) as caught:  # noqa: PT012 - any of the steps may be the one that fails
        for event in loop.steps():
            done += event["event"] == "step"
            meanwhile(event)
    assert "\n" not in str(caught.value)
    return done, str(caught.value)


def test_a_loss_that_is_no_number_leaves_the_state_before_it_as_a_checkpoint_and_says_where(
    tmp_path, recipe, tiny_engine
):
    loop = training(recipe("method=grpo", *SMALL, "max_steps=3"), tiny_engine, tmp_path / "out", Failing(2))
    done, error = stopped(loop)
    assert (
        done == 2
        and error.startswith("step 3: the loss is nan")
        and error.endswith(
            f"; the last good checkpoint is {tmp_path / 'out' / 'checkpoints' / 'step-000002'}, after step 2"
        )
    )
    again = training(loop.recipe, tiny_engine, tmp_path / "out", Parity())
    again.restore(latest_checkpoint(tmp_path / "out"))
    weights = learners.weights(again.students["user"])
    assert (
        torch.equal(weights, learners.weights(loop.students["user"]))
        and weights.isfinite().all()
        and again.students["user"].steps > 0
    )
    assert [event["event"] for event in again.steps(2)] == ["step", "checkpoint"]


def test_a_checkpoint_that_finds_no_room_is_told_and_leaves_the_one_before_whole(tmp_path, recipe, tiny_engine):
    """A limit on the size of a file stands in for a full disk."""
    loop = training(
        recipe("method=grpo", *SMALL, "max_steps=3", "save_steps=1"), tiny_engine, tmp_path / "out", Parity()
    )
    before, room = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)

    def note(event: dict) -> None:
        if event == {"event": "checkpoint", "step": 1}:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, room[1]))

    try:
        done, error = stopped(loop, note)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
        signal.signal(signal.SIGXFSZ, before)
    folder = tmp_path / "out" / "checkpoints"
    assert done == 2 and error.startswith(f"cannot write step-000002 in {folder} (") and "File too large" in error
    assert error.endswith(
        f"the last good checkpoint is {folder / 'step-000001'}, after step 1: make room and continue with --resume "
        f"{tmp_path / 'out'}"
    )
    assert [path.name for path in folder.iterdir()] == ["step-000001"]
    again = training(loop.recipe, tiny_engine, tmp_path / "out", Parity())
    again.restore(latest_checkpoint(tmp_path / "out"))
    assert [event["event"] for event in again.steps(1)] == ["step", "checkpoint"] * 2


def test_a_checkpoint_that_is_there_already_is_named_and_not_written_again(tmp_path, recipe, tiny_engine):
    loop, kept = (
        training(
            recipe("method=grpo", *SMALL, "max_steps=2", "save_steps=1"), tiny_engine, tmp_path / "out", Failing(1)
        ),
        [],
    )

    def note(event: dict) -> None:
        if event["event"] == "checkpoint":
            kept.append(latest_checkpoint(tmp_path / "out").stat())

    assert stopped(loop, note)[1].endswith("step-000001, after step 1") and kept == [
        latest_checkpoint(tmp_path / "out").stat()
    ]


def test_a_first_step_that_fails_leaves_no_checkpoint_and_says_so(tmp_path, recipe, tiny_engine):
    done, error = stopped(training(recipe("method=grpo", *SMALL), tiny_engine, tmp_path / "out", Failing(0)))
    assert (
        done == 0
        and error.endswith("; there is no checkpoint from before")
        and latest_checkpoint(tmp_path / "out") is None
    )


@pytest.mark.parametrize("spoken", [True, False])
def test_weights_that_are_no_numbers_are_not_saved_and_the_checkpoint_before_them_is_named(
    tmp_path, recipe, tiny_engine, spoken
):
    """Spoilt after step 2 is saved. `spoken`: the engine speaks with them, else only the learner reads with them."""
    loop = training(
        recipe("method=grpo", *SMALL, "max_steps=4", "save_steps=1"), tiny_engine, tmp_path / "out", Parity()
    )

    def spoil(event: dict) -> None:
        if event == {"event": "checkpoint", "step": 2}:
            with torch.no_grad():
                loop.students["user"].parameters[0].fill_(math.nan)
            if spoken:
                loop.install()

    done, error = stopped(loop, spoil)
    assert done == 2 and steps_of(latest_checkpoint(tmp_path / "out")) == 2
    assert ("spoke with likelihoods that are no numbers" in error) == spoken
    # with what was spoken the weights after step 2 may be what is wrong; lines that were read to the end clear them
    assert error.endswith("step-000001, after step 1" if spoken else "step-000002, after step 2")


def test_judges_that_move_the_walk_are_made_once_for_all_steps(tmp_path, recipe, tiny_engine, monkeypatch):
    """Each of them keeps what it has read open in its engine."""
    built = []
    monkeypatch.setattr(judges, "judges", lambda *_: built.append(Parity()) or built[-1:])
    list(training(recipe("method=grpo", *SMALL, "max_steps=3"), tiny_engine, tmp_path / "out", Parity()).steps())
    assert len(built) == 1


# -- tripwires


def test_a_wire_out_of_bounds_over_five_steps_stops_the_training_for_good(tmp_path, recipe, tiny_engine, monkeypatch):
    monkeypatch.setattr(rewards, "tripwire_means", lambda *_, **__: {"parroting": 0.5})  # of every line
    loop = training(
        recipe("method=grpo", *SMALL, "max_steps=9", "tripwires=stop"), tiny_engine, tmp_path / "out", Parity()
    )
    events = list(loop.steps())
    steps = [event for event in events if event["event"] == "step"]
    assert len(steps) == PATIENCE + 1 and [event["event"] for event in events[-2:]] == ["checkpoint", "stopped"]
    assert "parroting of the user is 0.50 over the last 5 steps" in events[-1]["reason"]
    again = training(loop.recipe, tiny_engine, tmp_path / "out", Parity())
    assert [event["event"] for event in again.steps(len(steps), steps)] == ["stopped"]


def test_offline_the_wires_are_heard_at_each_checkpoint_and_stop_as_well(tmp_path, recipe, tiny_engine, monkeypatch):
    monkeypatch.setattr(rewards, "tripwire_means", lambda *_, **__: {"parroting": 0.5})
    loop = training(
        recipe("method=kto", *SMALL, "max_steps=4", "save_steps=2", "tripwires=stop"),
        tiny_engine,
        tmp_path / "out",
        Parity(),
    )
    events = [event for event in loop.steps() if event["event"] in ("step", "stopped")]
    assert [event["event"] for event in events] == ["step", "step", "stopped"]
    assert "wire_parroting" not in events[0] and events[1]["wire_parroting"] == 0.5 and events[1]["samples"]


# -- how much is learnt


@pytest.mark.parametrize("method", ["grpo", "kto"])
def test_a_training_ends_with_the_step_that_reaches_its_tokens(tmp_path, recipe, tiny_engine, method):
    settings = recipe(f"method={method}", *SMALL, "max_steps=5")
    whole = list(training(settings, tiny_engine, tmp_path / "whole", Parity()).steps())
    learnt = [event["tokens_learnt"] for event in whole if event["event"] == "step"]
    assert len(learnt) == 5 and learnt[2] and any(learnt[3:])
    settings = settings.model_copy(update={"learn_tokens": sum(learnt[:2]) + 1})
    events = list(training(settings, tiny_engine, tmp_path / "out", Parity()).steps())
    steps = [event for event in events if event["event"] == "step"]
    assert len(steps) == 3 and events[-1] == {"event": "checkpoint", "step": 3}
    again = training(settings, tiny_engine, tmp_path / "out", Parity())
    again.restore(latest_checkpoint(tmp_path / "out"))
    assert list(again.steps(3, steps)) == []  # and nothing is learnt by going on


def test_dialogues_of_several_passes_are_played_once(tmp_path, recipe, tiny_engine):
    loop = training(recipe("method=sft", *SMALL, "max_steps=5", "passes=2"), tiny_engine, tmp_path / "out", Parity())
    events = [event["event"] for event in loop.steps()]
    assert events.count("collected") == 3 and events.count("step") == 5
    views = read_views(tmp_path / "out" / COLLECTED, loop.recipe, loop.scenario, "user")
    assert len(views) == 3 * loop.recipe.conversations
    with pytest.raises(ValueError, match="passes with an offline method"):
        recipe("method=grpo", *SMALL, "passes=2")


# -- what the steps tell


def training_records(recipe: Recipe, engine, at: Path) -> tuple[list[dict], list[dict], list[View]]:
    """The collected batches, the steps, and what was collected, of a training that reads all of it in each step."""
    loop = training(recipe, engine, at, Parity())
    events = list(loop.steps())
    stored = read_views(at / COLLECTED, recipe, loop.scenario, "user")
    return *([event for event in events if event["event"] == kind] for kind in ("collected", "step")), stored


def tokens(lines: Iterable[Sampled]) -> int:
    return sum(len(line.ids) for line in lines)


def test_batches_of_the_untouched_model_tell_what_online_steps_tell(tmp_path, recipe, tiny_engine):
    collected, steps, stored = training_records(
        recipe("method=kto", *SMALL, "max_steps=2"), tiny_engine, tmp_path / "kto"
    )
    online, *_ = training(
        recipe("method=grpo", *SMALL, "max_steps=1"), tiny_engine, tmp_path / "grpo", Parity()
    ).steps()
    assert [(event["batch"], event["batches"], event["seat"]) for event in collected] == [
        (0, 2, "user"),
        (1, 2, "user"),
    ]
    wires = {key for key in online if key.startswith(("wire_", "reward"))}
    assert len(wires) > 5 and all(wires <= event.keys() and event["samples"] for event in collected)
    no_models = {"wire_relevance", "wire_perplexity_nats"}  # which read with models that are not loaded here
    assert {name for name in step_columns(recipe("method=grpo", *SMALL)) if online.get(name) is None} - no_models <= {
        "loss",
        "grad_norm",
        "learning_rate",
    }
    assert set(step_columns(recipe("method=kto", *SMALL))) <= steps[0].keys() and "reward" not in steps[0]
    assert collected[0]["reward"] == online["reward"]  # the same dialogues: nothing had been learnt yet
    rewards = [line.reward for view in stored for line in view.lines if line.reward is not None]
    assert statistics.mean(event["reward"] for event in collected) == pytest.approx(statistics.mean(rewards))


@pytest.mark.parametrize("method", ["sft", "kto", "dpo"])
def test_steps_tell_the_tokens_they_read_and_those_that_carried_loss(tmp_path, recipe, tiny_engine, method):
    """Of rewards 1 and -1: sft learns the good lines, kto all, dpo the last good and the first bad one of each place
    that has both.
    """
    _, [step], views = training_records(
        recipe(f"method={method}", *SMALL, "num_generations=3", "max_steps=1"), tiny_engine, tmp_path / "out"
    )
    read = dataset.teaching(views, method, "user", Reward())
    lines = [line for view in read for line in view.lines]
    by_worth = [
        ([line for line in group if line.reward < 0], [line for line in group if line.reward > 0])
        for view in read
        for group in at_places(view)
    ]
    pairs = [line for bad, good in by_worth if bad and good for line in (bad[0], good[-1])]
    wanted = {"sft": [line for line in lines if line.reward > 0], "kto": lines, "dpo": pairs}[method]
    assert (step["tokens"], step["tokens_learnt"]) == (tokens(lines), tokens(wanted)) and tokens(wanted) > 0
    assert method == "kto" or tokens(wanted) < tokens(lines)


def test_grpo_learns_from_the_tokens_of_places_that_differ(tmp_path, recipe, tiny_engine):
    loop = training(
        recipe("method=grpo", *SMALL, "max_steps=1", "tuning.num_iterations=2"), tiny_engine, tmp_path / "out", Parity()
    )
    batches, played = [], loop._played
    loop._played = lambda *asked: batches.append(played(*asked)) or batches[-1]
    step = next(loop.steps())
    differ = [
        line
        for view in batches[0].views
        for group in at_places(view)
        if len({line.reward for line in group}) == 2
        for line in group
    ]
    assert step["tokens_learnt"] == tokens(differ) > 0  # once, though two updates read them
    assert step["tokens"] == tokens(line for view in batches[0].views for line in view.lines) and step["skipped"] > 0


@pytest.mark.parametrize(("method", "times"), [("sft", 2), ("grpo", 4)])
def test_engines_are_given_new_weights_where_somebody_plays_with_them(tmp_path, recipe, tiny_engine, method, times):
    """At first and after each of three steps where those are played; else for the batch at the checkpoint, and for the
    evaluation.
    """
    loop, installed = (
        training(recipe(f"method={method}", *SMALL, "max_steps=3"), tiny_engine, tmp_path / "out", Parity()),
        [],
    )
    install = loop.install
    loop.install = lambda: installed.append(learners.weights(loop.students["user"])) or install()
    list(loop.steps())
    assert len(installed) == times and torch.equal(installed[-1], learners.weights(loop.students["user"]))
    again = training(loop.recipe, tiny_engine, tmp_path / "out", Parity())
    again.install = lambda: installed.append(None)
    assert list(again.steps(3)) == [] and len(installed) == times + 1  # killed before it was evaluated


def test_ppo_learns_nothing_from_rewards_that_are_all_equal_and_says_so(tmp_path, recipe, tiny_engine):
    class Content(Parity):
        def judge(self, pairs):
            return [replace(row, p_inconsistent=0.0) for row in super().judge(pairs)]

    settings = recipe("method=ppo", *SMALL, "overrides.turns=4", "max_steps=1")
    loop = training(settings, tiny_engine, tmp_path / "out", Content())
    before = learners.weights(loop.students["user"])
    step = next(loop.steps())
    assert step["note"] == "all rewards that could be compared are equal: nothing was learnt" and step["reward"] == 1
    assert step["loss"] is None and step["tokens_learnt"] == 0 < step["tokens"]
    assert torch.equal(before, learners.weights(loop.students["user"])) and loop.students["user"].steps == 0


def test_the_last_checkpoint_is_the_one_after_most_steps_and_whole(tmp_path):
    for name in ("step-000002", "step-1000000", "step-999999", ".step-1000001.part"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [latest_checkpoint(tmp_path, most).name for most in (math.inf, 999_999, 5)] == [
        "step-1000000",
        "step-999999",
        "step-000002",
    ]
    assert latest_checkpoint(tmp_path, 1) is None and latest_checkpoint(tmp_path / "elsewhere") is None
