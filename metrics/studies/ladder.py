"""The ladder of interventions: which one makes a speaker keep its persona, from the bare card to prompts, steering and
training?

All interventions play the same dialogues with the same held-out personas and seeds, and are asked in paraphrases that
no training used. A prompt changes the scenario. A search chooses its change by successive halving on personas of a
development split. A training contributes its adapter. On the development personas, the best prompt and the best
training are chosen among those without a tripwire out of bounds. The statistic is how much more of the bare card's
wrong answers the training removes than the prompt does, according to a judge that gave no reward.

Controls: other seeds and random steering remove nothing; the tripwires catch a policy that evades; a policy that lies
is detected; and the judge can read the answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl

from metrics.studies.dialogue_arms import (
    ANSWERS,
    LINES,
    NOT_EXAMINED,
    NOTHING,
    arm_consistency,
    arm_figures,
    best_of,
    broken_bounds,
    controls,
    removed,
    scored_rows,
    share_text,
    unscored_share,
)
from metrics.studies.prompt_search import combined, proposed, search
from metrics.studies.protocol import Ask, Control, Finding, Picture, PlayedRun, Test, Trained, above, below
from scenarios.fields import Count, Some, Strict, Text
from scenarios.records import derive_seed

AGAIN, HALF = "other seeds", 0.5  # of the inconsistency
INSTRUCTION, TAKES = "seats.user.instruction", 2  # what is searched for, and how much of it the model proposes


class Intervention(Strict):
    """One of: no change, `play`, `search` or `rules`, and `train`."""

    way: Literal["words", "states"] = "words"  # by which it moves the model, where it does not train
    play: dict[str, Any] = {}  # what it changes in the scenario
    search: list[dict[str, Any]] = []  # changes, of which the one that helps most on the development split is played
    rules: list[
        list[str]
    ] = []  # or such instructions: one of each list, joined; and what the model says to the request
    request: str = ""
    train: Text | None = None  # a training's file
    changes: dict[str, Any] = {}  # what it changes there


class Stimuli(Strict):
    """The schema of the stimuli file."""

    scenario: Text
    held_out: Some[str]
    development: Some[str]
    exam: dict[str, Any]
    interventions: dict[Text, Intervention]  # the first is what all others are compared with
    nothing: dict[Text, dict[str, Any]] = {}  # changes that should remove nothing
    scripts: dict[str, Some[str]]


def study(
    ask: Ask,
    stimuli: Stimuli,
    seed: int,
    *,
    interventions: Some[Text],
    steps: Count,
    dialogues: Count,
    searched: Count,
    developed: Count,
    examined: Count,
    turns: Count,
) -> Finding:
    """The finding on how much more of the wrong answers the best training removes than the best prompt.

    - `interventions`: names from the stimuli file, in this order; the first is the reference.
    - `steps`, `dialogues`: steps of a training, and dialogues per step.
    - `searched`: dialogues that a search may play in all.
    - `developed`, `examined`: dialogues per intervention with personas of the development split, and with held-out
      ones.
    - `turns`: turns of each dialogue.
    """
    common = {
        **stimuli.exam,
        "measure.qa_every": turns,
        "turns": turns,
        "seed": derive_seed(seed, "exam") % 2**31,
    }
    exam = {**common, "persona_pool": stimuli.held_out, "conversations": examined}
    choosing = {**common, "persona_pool": stimuli.development, "conversations": developed}
    learning = {
        **NOT_EXAMINED,
        "seed": seed,
        "held_out.personas": stimuli.held_out,
        "max_steps": steps,
        "conversations": dialogues,
        "overrides.turns": turns,
    }
    chosen, played, trained, tried = {}, {}, {}, {}
    for name in interventions:
        intervention, change = stimuli.interventions[name], stimuli.interventions[name].play
        if intervention.train:
            offline = [
                trained[other].worn for other in trained if stimuli.interventions[other].train == intervention.train
            ]
            trained[name] = ask.train(
                f"{name}, training", intervention.train, {**learning, **intervention.changes}, offline[:1]
            )
        elif changes := _candidates(ask, name, intervention, seed):
            change, tried[name] = _searched(ask, stimuli, name, changes, common, searched)
        worn = trained[name].worn if name in trained else None
        chosen[name] = ask.play(f"{name}, development", stimuli.scenario, choosing | change, worn)
        played[name] = ask.play(name, stimuli.scenario, exam | change, worn)
    acted = {
        name: ask.play(name, stimuli.scenario, exam | {"seats.user.script": words})
        for name, words in stimuli.scripts.items()
    }
    acted |= {name: ask.play(name, stimuli.scenario, exam | change) for name, change in stimuli.nothing.items()}
    acted[AGAIN] = ask.play(AGAIN, stimuli.scenario, exam | {"seed": derive_seed(seed, AGAIN) % 2**31})
    words = [name for name in interventions[1:] if name not in trained and stimuli.interventions[name].way == "words"]
    best = [best_of(chosen, names, interventions[0]) for names in (words, list(trained))]
    return _finding(stimuli, played, trained, tried, acted, best)


def _candidates(ask: Ask, name: str, intervention: Intervention, seed: int) -> list[dict[str, Any]]:
    """The changes among which an intervention searches; none where it does not search."""
    texts = combined(*intervention.rules) if intervention.rules else []
    texts += proposed(ask, f"{name}, proposed", intervention.request, TAKES, seed) if intervention.request else []
    return [*intervention.search, *({INSTRUCTION: text} for text in texts)]


def _searched(
    ask: Ask, stimuli: Stimuli, name: str, changes: Sequence[dict], common: dict, budget: int
) -> tuple[dict, list[PlayedRun]]:
    """The best of the changes, and all runs that the search played."""
    tried: list[PlayedRun] = []
    by_name = {json.dumps(change, sort_keys=True): change for change in changes}

    def score(names: Sequence[str], places: Sequence[int]) -> np.ndarray:
        people = {"persona_pool": [stimuli.development[place] for place in places], "conversations": len(places)}
        return np.array([right(dict(people | by_name[name]), len(places)) for name in names])

    def right(change: dict, dialogues: int) -> list[float]:
        tried.append(ask.play(f"{name}, tried {len(tried) + 1}", stimuli.scenario, common | change))
        bad = dict(scored_rows(tried[-1], *ANSWERS).group_by("conversation").agg(pl.col("bad").mean()).iter_rows())
        return [1 - bad.get(n, np.nan) for n in range(dialogues)]

    return by_name[search(list(by_name), score, len(stimuli.development), budget=budget).best], tried


def _finding(
    stimuli: Stimuli,
    played: dict[str, PlayedRun],
    trained: dict[str, Trained],
    tried: dict[str, list[PlayedRun]],
    acted: dict[str, PlayedRun],
    best: Sequence[str | None],
) -> Finding:
    (bare, before), *rest = played.items()
    gone = {
        what: {name: removed(before, [run], what) for name, run in (dict(rest) | acted).items()}
        for what in (ANSWERS, LINES)
    }
    text, learnt = best
    more = removed(before, [played[learnt], played[text]] if text and learnt else [], ANSWERS, (1, -1))
    by_text, by_training = (removed(before, [played[name]] if name else [], ANSWERS) for name in best)
    tripped = {name: broken_bounds(run, before) for name, run in rest}
    bought = "; ".join(f"{name}: {', '.join(broken)}" for name, broken in tripped.items() if broken) or "none"
    nothing = {f"{name} removes nothing": Control(gone[ANSWERS][name], below(NOTHING)) for name in stimuli.nothing}
    return Finding(
        {
            "share of wrong answers removed by the best training less by the best text": Test(more, above(0), below(0)),
            "share of wrong answers removed by the best text": Test(by_text, below(HALF), above(HALF)),
        },
        controls(before, acted, gone[ANSWERS][AGAIN]) | nothing,
        f"Chosen on other people, the best text ({text or 'none is fair'}) removes {share_text(by_text)} of the "
        f"{bare}'s wrong answers, the best training ({learnt or 'none is fair'}) {share_text(by_training)}. Tripwires "
        f"out of bounds beside the {bare}: {bought}.",
        {
            f"wrong answers removed, {name}": share
            for name, share in gone[ANSWERS].items()
            if name in played or name in stimuli.nothing
        }
        | {f"answers that could not be scored, {name}": unscored_share(run, ANSWERS) for name, run in played.items()},
        {
            "ladder": Picture(
                "What moves it?",
                "intervention",
                "share consistent",
                {
                    said: [(name, arm_consistency(run, what)) for name, run in played.items()]
                    for said, what in (("answers, by the reader", ANSWERS), ("lines, by the ledger", LINES))
                },
            )
        },
        {
            "The ladder": {
                name: arm_figures(
                    run,
                    {what: shares.get(name) for what, shares in gone.items()},
                    len(tripped.get(name, ())),
                    trained.get(name),
                    tried.get(name, ()),
                )
                for name, run in played.items()
            }
        },
    )
