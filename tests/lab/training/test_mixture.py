"""A training on several scenarios: which dialogues a step plays, and that they are learnt from like any."""

from __future__ import annotations

import json

import corpora
import learners
import numpy as np
import pytest
import torch
from corpora import Parity

from lab.dialogue.seats import engine_name
from lab.training.collected import COLLECTED, read_views
from lab.training.loop import TrainingLoop, learner
from lab.training.rollouts import dialogues_by_scenario, talks
from scenarios.jobs.recipe import all_played, played
from scenarios.jobs.training import split
from scenarios.personas import load_personas

pytestmark = pytest.mark.usefixtures("one_thread")
BOTH = "scenario=[small.yaml, {scenario: other.yaml, weight: 3}]"
SMALL = ("conversations=4", "num_generations=2", "overrides={turns: 4}", "reward.penalty=0", "method=grpo")


@pytest.fixture
def mixed(tmp_path, recipe, tiny_name):
    """As `recipe`, with a second scenario."""
    text = corpora.SCENARIO.replace("MODEL", tiny_name).replace("name: small", "name: other")
    (tmp_path / "other.yaml").write_text(text.replace("Hello, {partner.name}!", "What a day!"))
    return recipe


def rollouts(recipe, engine, step=0):
    engines = {engine_name(played(recipe).seats["user"]): engine}
    return talks(recipe, engines, "user", step, split(recipe)[0], {}, [[] for _ in recipe.scenario])


def test_dialogues_are_drawn_over_scenarios_by_weight(mixed):
    recipe = mixed(BOTH, "conversations=6")
    counts = np.array([dialogues_by_scenario(recipe, step) for step in range(200)])
    assert (counts.sum(1) == 6).all() and abs(counts - [1.5, 4.5]).max() < 1
    assert counts.mean(0) == pytest.approx([1.5, 4.5], abs=0.1) and len(set(counts[:, 0])) == 2
    assert dialogues_by_scenario(mixed("conversations=6"), 0) == [6]


def test_dialogues_that_begin_alike_are_of_one_scenario(mixed):
    recipe = mixed(BOTH, "method=grpo", "groups=episodes", "num_generations=3", "conversations=7")
    counts = np.array([dialogues_by_scenario(recipe, step) for step in range(50)])
    assert (counts.sum(1) == 7).all() and (counts[:, 0] % 3 == 0).all() and len(set(counts[:, 0])) > 1


def test_a_step_numbers_its_dialogues_over_all_scenarios_and_plays_the_first_as_if_alone(mixed, tiny_engine):
    recipe = mixed(*SMALL, BOTH)
    step = next(step for step in range(9) if dialogues_by_scenario(recipe, step)[0] == 1)
    played_here = rollouts(recipe, tiny_engine, step)
    assert [talk.number for talk in played_here] == [0, 1, 2, 3]
    assert [{line.conversation for line in talk.lines} for talk in played_here] == [{0}, {1}, {2}, {3}]
    assert [talk.lines[0].text.startswith("Hello") for talk in played_here] == [True, False, False, False]
    alone = rollouts(mixed(*SMALL, "conversations=1"), tiny_engine, step)
    assert alone[0].lines[1].token_ids == played_here[0].lines[1].token_ids != played_here[1].lines[1].token_ids
    assert all(talk.cast["user"].id in split(recipe)[0] for talk in played_here)


def test_held_out_slots_are_never_asked_for_and_never_rewarded(mixed, tiny_engine):
    """Of three slots left, all are asked for in the dialogues and in probes; the card tells of all."""
    left = ["name", "age", "job"]
    out = "held_out.slots=[home, origin, pet, dish, instrument]"
    overrides = (
        "overrides={turns: 6, graph.nodes.hello.says: ['{fact.question}'], graph.nodes.chat.says: ['{fact.question}']}"
    )
    recipe = mixed(*SMALL, out, overrides, "reward={qa: 1, probes: 8}")
    views = rollouts(recipe, tiny_engine)
    facts = {fact.id: fact for person in load_personas(played(recipe).personas) for fact in person.facts}
    asked = [line.text for talk in views for line in talk.lines if line.seat == "assistant"]
    assert {fact.id for fact in facts.values() if any(fact.question in text for text in asked)} == set(left)
    assert {spoken.about for talk in views for spoken in talk.spoken if spoken.about} == set(left)
    for talk in views:
        person = talk.cast["user"]
        assert [fact.id for fact in person.facts] == left and "your one and only pet" in person.card.lower()


def training(recipe, engine, at):
    at.mkdir(exist_ok=True)
    scenario = played(recipe)
    engines, students = {engine_name(scenario.seats["user"]): engine}, {"user": learner(recipe, scenario, "user")}
    return TrainingLoop(recipe, scenario, engines, students, Parity(), {"embed": None, "logprobs": None}, at)


def test_a_training_on_several_growing_scenarios_that_goes_on_equals_one_never_stopped(tmp_path, mixed, tiny_engine):
    recipe = mixed(*SMALL, BOTH, "max_steps=3", "save_steps=2", "curriculum={turns: 2, steps: 2}")
    whole = training(recipe, tiny_engine, tmp_path / "whole")
    steps = [event for event in whole.steps() if event["event"] == "step"]
    assert [step["lines"] for step in steps] == [8, 8, 16], "lines of 2, 3 and 4 turns: 1, 1 and 2 of the user, twice"
    again = training(recipe, tiny_engine, tmp_path / "whole")
    again.restore(tmp_path / "whole" / "checkpoints" / "step-000002")
    list(again.steps(2, steps[:2]))
    assert torch.equal(learners.weights(whole.students["user"]), learners.weights(again.students["user"]))


def test_what_the_base_model_played_in_several_scenarios_is_kept_and_read(tmp_path, mixed, tiny_engine):
    recipe = mixed(*SMALL, BOTH, "max_steps=2", "method=kto")
    collected = [
        event for event in training(recipe, tiny_engine, tmp_path / "out").steps() if event["event"] == "collected"
    ]
    path = tmp_path / "out" / COLLECTED
    assert len(collected) == 2 and len(read_views(path, recipe, all_played(recipe)[0], "user")) == 8
    assert json.loads(path.read_text().splitlines()[0])["scenario"] == "small, other"
