"""Stored data to learn from, made up here, on a small model whose tokens are characters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import learners
import pytest
import tiny

from agents.learning.views import View
from lab.dialogue.wiring import set_up_on
from lab.runs.runner import new_store
from lab.training.dataset import load_training_data
from metrics.judges import judgement
from metrics.judges.ledger import Ledger
from scenarios.jobs.recipe import Recipe, played
from scenarios.jobs.training import load_recipe
from scenarios.scenario import load_scenario

TOWNSFOLK = (Path(__file__).parents[2] / "scenarios/personas/townsfolk.yaml").resolve()
SCENARIO = f"""
name: small
seed: 7
conversations: 4
concurrency: 3
turns: 6
personas: {TOWNSFOLK}
seats:
  assistant: {{model: MODEL, persona: radio_host, max_tokens: 6}}
  user: {{model: MODEL, persona: sample, max_tokens: 8, instruction: You call a show.}}
graph:
  start: hello
  nodes:
    hello: {{speaker: assistant, says: ["Hello, {{partner.name}}!"]}}
    chat: {{instruct: {{user: "Speak of your {{self.name}} self.", assistant: "Ask about their {{fact.slot}}."}}}}
    doubt: {{speaker: assistant, instruct: {{assistant: "Doubt it."}}, pressure: 3}}
    defence: {{speaker: user, instruct: {{user: "Defend yourself."}}}}
  edges:
    - {{from: hello, to: chat}}
    - {{from: chat, to: doubt, when: contradiction}}
    - {{from: doubt, to: defence}}
    - {{from: defence, to: chat}}
measure: {{metrics: [prompt_to_line], judge: ledger}}
"""
RECIPE = """
name: stored
seed: 5
scenario: small.yaml
method: kto
reward: {qa: 0, prompt_to_line: 1}
evaluation: {judge: [nli]}
dtype: float32
device: cpu
"""
MIA, LEO = "You are Mia. You play the flute.", "You are Leo. You bake bread."

REWARDS = (1, -1, 0.1 + 0.2, None, -0.5, 0)
KEPT = [replace(learners.view(4, 2, conversation=number, rewards=REWARDS), persona="grace") for number in range(3)]
KEPT[1] = replace(
    KEPT[1], lines=tuple(replace(line, logprobs=(-1 / 3,) * len(line.ids), text="naïve ☂") for line in KEPT[1].lines)
)


class Parity:
    """Finds a contradiction in every line of an even number of characters."""

    name = "ledger"

    def __init__(self):
        self.asked = []

    def judge(self, pairs):
        self.asked += pairs
        even = [len(pair.line) % 2 == 0 for pair in pairs]
        return [
            judgement(pair, self.name, p_inconsistent=float(bad), verdict=bad)
            for pair, bad in zip(pairs, even, strict=True)
        ]


def folder(at: Path, seed: int = 0) -> str:
    """The name of a small model that reads long views."""
    return learners.saved(tiny.llama(max_position_embeddings=4096), at, seed)


def recipes(at: Path, name: str) -> Callable[..., Recipe]:
    """A function: overrides -> the recipe, which trains the model of that name."""
    (at / "small.yaml").write_text(SCENARIO.replace("MODEL", name))
    (at / "recipe.yaml").write_text(RECIPE)
    return lambda *overrides: load_recipe(at / "recipe.yaml", ["tripwires=log", *overrides])  # random words trip some


def over(*paths: object) -> str:
    return f"data={json.dumps([str(path) for path in paths])}"


def learnt(recipe: Recipe, engine, judge=None, seat: str = "user") -> list[View]:
    return load_training_data(recipe, played(recipe), seat, engine, judge or Ledger(), None).views


def written(path: Path, *records: dict) -> Path:
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def talk(number: int, card: str = MIA, labels: tuple = (False, True)) -> dict:
    """The user, P2, says two lines; `labels`: whether each contradicts."""
    return {
        "id": number,
        "personas": {"P1": "You are a host.", "P2": card},
        "lines": [
            {"speaker": "P1", "text": "Who is there?"},
            {"speaker": "P2", "text": f"Caller {number}.", "contradicts_persona": labels[0]},
            {"speaker": "P1", "text": "Go on."},
            {"speaker": "P2", "text": "I play the drums all day.", "contradicts_persona": labels[1]},
        ],
    }


def run(at: Path, name: str, engine, judge, events: int | None = None):
    """A run folder of four dialogues, and the user's seat as the play left it; its events are cut after so many."""
    (at / "small.yaml").write_text(SCENARIO.replace("MODEL", name))
    scenario = load_scenario(at / "small.yaml")
    play = set_up_on(scenario, {name: engine}, generations={"user": 1}, judged_by=[judge]).play
    with new_store(at / "runs", load_scenario(at / "small.yaml", [f"measure.judge={judge.name}"])) as store:
        for number, event in enumerate(play.events()):
            if events is None or number < events:
                store.append(event)
        store.finish("finished" if events is None else "interrupted")
    return store.path, play.seats["user"], play.cast


def by_ids(views: list[View]) -> dict[tuple[int, ...], View]:
    return {view.ids: view for view in views}


def refused(recipe: Recipe, engine) -> str:
    with pytest.raises(ValueError) as caught:
        learnt(recipe, engine)
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)
    return str(caught.value)
