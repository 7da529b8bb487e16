"""The dialogues of a training step: scenario and seats as in any run, with the trained seat under its current
adapter.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from agents.engine.protocol import Engine
from agents.seats.base import Cue, Question
from lab.dialogue.loop import Play
from lab.dialogue.wiring import set_up_on
from lab.store.frames import ends
from lab.store.resume import stored
from lab.training.reward_parts import Rollout, has_probes
from metrics.judges import Judge
from scenarios import personas as people
from scenarios.jobs.training import Recipe, played
from scenarios.records import Line, derive_seed

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
    judged_by: Sequence[Judge],
) -> list[Rollout]:
    """The dialogues of a step, with all lines that the trained seat sampled; failed dialogues are left out.

    `drawn` holds the ids of the personas that may be drawn. `judged_by` are the scenario's judges, whose verdicts may
    move the walk. The seat samples with its temperature and top_k, which the learner takes into account, and with top_p
    = 1.
    """
    seed = derive_seed(recipe.seed, "step", step) % 2**31
    scenario = played(
        recipe, seed=seed, conversations=recipe.conversations, persona_pool=list(drawn), **{f"seats.{seat}.top_p": 1.0}
    )
    scenario = scenario.model_copy(update={"measure": scenario.measure.model_copy(update={"metrics": []})})
    alike = recipe.compares_episodes()
    cast = people.cast(scenario)
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
                _ask(recipe, play, seat, step, turn, scenario.turns, spoken)
            spoken = []
    view: ModelSeat = play.seats[seat]  # pyright: ignore[reportAssignmentType]  # a model speaks there
    lines = _lines(events, len(cast))
    return [
        Rollout(c, seat, play.cast[c], dialogue_lines, tuple(view.ids[c]), tuple(view.spoken[c]))
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


def _ask(recipe: Recipe, play: Play, seat: str, step: int, turn: int, turns: int, here: Sequence[int]) -> None:
    """After a turn drawn by the step's seed, puts `reward.probes` Q&A probes to each dialogue, in paraphrases not held
    out.
    """
    if turn != random.Random(derive_seed(recipe.seed, step, "asked")).randint(1, turns):
        return
    questions: dict[int, list[Question]] = {}
    for c in here:
        rng = random.Random(derive_seed(recipe.seed, step, c, "asked"))
        facts = play.cast[c][seat].facts
        for fact in rng.sample(facts, min(recipe.reward.probes, len(facts))):
            kept = min(recipe.held_out.paraphrase, len(fact.slot.questions) - 1)  # for the evaluation
            wordings = [text for number, text in enumerate(fact.slot.questions) if number != kept] or [fact.question]
            questions.setdefault(c, []).append(Question(rng.choice(wordings), about=fact.id))
    if questions:
        cues = {c: Cue("", derive_seed(recipe.seed, step, c, turn, "asked"), turn) for c in questions}
        play.seats[seat].answer(questions, cues)
