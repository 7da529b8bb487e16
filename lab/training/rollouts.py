"""The dialogues of a training step: scenario and seats as in any run, with the trained seat under its current
adapter.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from agents.engine.protocol import Engine
from agents.seats.base import Cue, Question
from lab.dialogue.loop import Play
from lab.dialogue.wiring import set_up_on
from lab.store.frames import ends
from lab.store.resume import stored
from lab.training.reward_parts import Rollout, has_probes
from metrics.judges import Judge
from scenarios import personas as people
from scenarios.jobs.recipe import Recipe, played
from scenarios.jobs.training import held_out_slots, pool, without_slots
from scenarios.records import Line, derive_seed
from scenarios.scenario import Scenario

if TYPE_CHECKING:
    from agents.seats.model import ModelSeat


def trained(seat: str) -> str:
    """The name of the seat's current adapter in an engine."""
    return f"trained-{seat}"


def talks(
    recipe: Recipe,
    engines: Mapping[str, Engine],
    seat: str,
    step: int,
    drawn: Sequence[str],
    adapters: Mapping[str, str | None],
    judged_by: Sequence[Sequence[Judge]],
) -> list[Rollout]:
    """The dialogues of a step, scenario by scenario, with all lines that the trained seat sampled; failed dialogues are
    left out.

    `drawn` holds the ids of the personas that may be drawn. `judged_by` are the judges of each scenario, whose verdicts
    may move the walk. The seat samples with its temperature and top_k, which the learner takes into account, and with
    top_p = 1. Conversations are numbered over all scenarios of the step.
    """
    rollouts: list[Rollout] = []
    first = 0
    for number, conversations in enumerate(dialogues_by_scenario(recipe, step)):
        if conversations:
            scenario = _scenario(recipe, number, seat, step, drawn, conversations)
            rollouts += _talks(recipe, scenario, engines, seat, step, adapters, judged_by[number], first)
            first += conversations
    return rollouts


def dialogues_by_scenario(recipe: Recipe, step: int) -> list[int]:
    """The number of dialogues of each scenario in a step, in the order of the recipe; together `conversations`.

    They are drawn by weight, by systematic sampling: a scenario's expected number is its share of the weights times
    `conversations`, and its number differs from that by less than one. Dialogues that begin alike (`groups: episodes`)
    are drawn together.
    """
    each = recipe.num_generations if recipe.compares_episodes() else 1
    groups = -(-recipe.conversations // each)
    weights = np.array([scenario.weight for scenario in recipe.scenario])
    start = random.Random(derive_seed(recipe.seed, "scenario", step)).random()
    places = (np.arange(groups) + start) / groups
    numbers = np.minimum(np.searchsorted(np.cumsum(weights) / weights.sum(), places, side="right"), len(weights) - 1)
    counts = np.bincount(numbers, minlength=len(weights)) * each
    counts[numbers[-1]] -= groups * each - recipe.conversations  # the last group may be a smaller one
    return counts.tolist()


def _scenario(recipe: Recipe, number: int, seat: str, step: int, drawn: Sequence[str], conversations: int) -> Scenario:
    """A scenario of the recipe as a step plays it, without metrics."""
    whole = played(recipe, number)
    scenario = played(
        recipe,
        number,
        seed=derive_seed(recipe.seed, "step", step, *([number] if number else [])) % 2**31,  # the first's as if alone
        conversations=conversations,
        persona_pool=pool(whole, drawn),
        turns=recipe.turns(step, whole.turns),
        **{f"seats.{seat}.top_p": 1.0},
    )
    return scenario.model_copy(update={"measure": scenario.measure.model_copy(update={"metrics": []})})


def _talks(
    recipe: Recipe,
    scenario: Scenario,
    engines: Mapping[str, Engine],
    seat: str,
    step: int,
    adapters: Mapping[str, str | None],
    judged_by: Sequence[Judge],
    first: int,
) -> list[Rollout]:
    """The dialogues of a step in one scenario, numbered from `first` on."""
    alike, slots = recipe.compares_episodes(), held_out_slots(recipe)
    cast = [{name: without_slots(persona, slots) for name, persona in seats.items()} for seats in people.cast(scenario)]
    if alike:
        cast = [
            seats for seats in cast[: -(-len(cast) // recipe.num_generations)] for _ in range(recipe.num_generations)
        ][: len(cast)]
    each = 1 if alike or recipe.method == "ppo" else recipe.num_generations
    play = set_up_on(
        scenario,
        engines,
        adapters=adapters,
        generations={seat: each},
        cast=cast,
        judged_by=judged_by,
        alike=recipe.num_generations if alike else 1,
    ).play
    probed = has_probes(recipe)
    events: list[dict] = []
    turn, spoken = 0, []  # the dialogues that have just said their line
    for event in play.events():
        events.append(event)
        if event["event"] == "line":
            spoken.append(event["conversation"])
        elif event["event"] == "usage":  # all dialogues have said their line, and wait
            turn = turn % scenario.turns + 1
            if probed:
                _ask(recipe, play, seat, step, turn, scenario.turns, spoken, first)
            spoken = []
    view: ModelSeat = play.seats[seat]  # pyright: ignore[reportAssignmentType]  # a model speaks there
    lines = _lines(events, len(cast))
    return [
        Rollout(
            first + c,
            seat,
            play.cast[c],
            [replace(line, conversation=first + c) for line in dialogue_lines],
            tuple(view.ids[c]),
            tuple(view.spoken[c]),
        )
        for c, dialogue_lines in lines.items()
    ]


def _lines(events: Sequence[dict], conversations: int) -> dict[int, list[Line]]:
    """The lines of each conversation in turn order, without failed conversations."""
    failed = {c for c, end in ends(events).items() if end["status"] == "failed"}
    lines: dict[int, list[Line]] = {c: [] for c in range(conversations) if c not in failed}
    for (c, _), line in stored(events).lines.items():
        if c in lines:
            lines[c].append(line)
    return lines


def _ask(
    recipe: Recipe, play: Play, seat: str, step: int, turn: int, turns: int, here: Sequence[int], first: int = 0
) -> None:
    """After a turn drawn by the step's seed, puts `reward.probes` Q&A probes to each dialogue, in paraphrases not held
    out. The dialogues are numbered from `first` on in the step.
    """
    if turn != random.Random(derive_seed(recipe.seed, step, "asked")).randint(1, turns):
        return
    questions: dict[int, list[Question]] = {}
    for c in here:
        rng = random.Random(derive_seed(recipe.seed, step, first + c, "asked"))
        facts = play.cast[c][seat].facts
        for fact in rng.sample(facts, min(recipe.reward.probes, len(facts))):
            kept = min(recipe.held_out.paraphrase, len(fact.slot.questions) - 1)  # for the evaluation
            wordings = [text for number, text in enumerate(fact.slot.questions) if number != kept] or [fact.question]
            questions.setdefault(c, []).append(Question(rng.choice(wordings), about=fact.id))
    if questions:
        cues = {c: Cue("", derive_seed(recipe.seed, step, first + c, turn, "asked"), turn) for c in questions}
        play.seats[seat].answer(questions, cues)
