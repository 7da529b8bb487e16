"""The ladder: which rung moves a persona-holding speaker, from the bare card over better words to training.

Under every rung the same held-out people are in the same dialogues, by the same seeds, asked in words that no training used. A rung of
texts changes the scenario, one that searches picks its change on people of a development split, one that trains wears what it learnt. The
statistic: how much more of the bare card's wrong answers trained rungs remove than rungs of texts, by a judge that gave no reward.
Controls: other seeds remove nothing, a policy that evades is caught by the wires, and one that lies is found out.
"""

from __future__ import annotations

from typing import Any

from metrics.finding import Ask, Finding, Picture, Played, Test, Trained, above, below
from metrics.rungs import ANSWERS, LINES, NOT_EXAMINED, consistency, controls, drift, figure, over_run, removed, seconds, wires
from scenarios.records import derive_seed
from scenarios.study import Count, Some, Strict, Text

AGAIN, HALF = "other seeds", 0.5  # of the inconsistency
FIRST = "time_to_first_contradiction"
SHOWN = ("distinct_2", "relevance", "perplexity_nats", "length")  # wires


class Rung(Strict):
    """One of: nothing, `play`, `search` and `train`."""

    play: dict[str, Any] = {}  # what it changes in the scenario
    search: list[dict[str, Any]] = []  # of which the one that helps most on the development split is played
    train: Text | None = None  # a training's file
    changes: dict[str, Any] = {}  # what it changes there


class Stimuli(Strict):
    scenario: Text
    held_out: Some[str]
    development: Some[str]
    exam: dict[str, Any]
    rungs: dict[Text, Rung]  # the first is what all others are compared with
    scripts: dict[str, Some[str]]


def study(ask: Ask, stimuli: Stimuli, seed: int, *, rungs: Some[Text], steps: Count, dialogues: Count, examined: Count, turns: Count
          ) -> Finding:
    """`rungs`: of the stimuli's, in this order; `dialogues`: of a step of training; `turns`: of a dialogue in training and exam."""
    exam = {**stimuli.exam, "drawn": stimuli.held_out, "conversations": examined, "turns": turns, "seed": derive_seed(seed, "exam") % 2**31}
    learning = {**NOT_EXAMINED, "seed": seed, "held_out.personas": stimuli.held_out, "max_steps": steps, "conversations": dialogues,
                "overrides.turns": turns}
    played: dict[str, Played] = {}
    trained: dict[str, Trained] = {}
    tried: dict[str, list[Played]] = {}
    for name in rungs:
        rung = stimuli.rungs[name]
        if rung.train:
            offline = [trained[other].worn for other in trained if stimuli.rungs[other].train == rung.train]
            trained[name] = ask.train(f"{name}, training", rung.train, {**learning, **rung.changes}, offline[:1])
        tried[name] = [ask.play(f"{name}, development", stimuli.scenario, exam | {"drawn": stimuli.development} | change)
                       for change in rung.search]
        best = max(zip(tried[name], rung.search), key=lambda one: _right(one[0], seed), default=(None, rung.play))[1]
        played[name] = ask.play(name, stimuli.scenario, exam | best, trained[name].worn if name in trained else None)
    acted = {name: ask.play(name, stimuli.scenario, exam | {"seats.user.script": words}) for name, words in stimuli.scripts.items()}
    acted[AGAIN] = ask.play(AGAIN, stimuli.scenario, exam | {"seed": derive_seed(seed, AGAIN) % 2**31})
    return _found(played, trained, tried, acted, seed)


def _right(played: Played, seed: int) -> float:
    """Share of right answers; what could not be measured is the last to be chosen."""
    value = consistency(played, ANSWERS, seed).value
    return value if value == value else -1.0


def _found(played: dict[str, Played], trained: dict[str, Trained], tried: dict[str, list[Played]], acted: dict[str, Played], seed: int
           ) -> Finding:
    (bare, before), *rest = played.items()
    texts, learnt = ([one for name, one in rest if (name in trained) == way] for way in (False, True))
    gone = {what: {name: removed(before, [one], what, seed) for name, one in (dict(rest) | acted).items()} for what in (ANSWERS, LINES)}
    weights = [1 / len(learnt)] * len(learnt) + [-1 / len(texts)] * len(texts) if learnt and texts else []
    more, by_text = removed(before, [*learnt, *texts] if weights else [], ANSWERS, seed, weights), removed(before, texts, ANSWERS, seed)
    tripped = {name: wires(one, before) for name, one in rest}
    bought = "; ".join(f"{name}: {', '.join(some)}" for name, some in tripped.items() if some) or "none"
    return Finding(
        {"share of wrong answers removed by training less by texts": Test(more, above(0), below(0)),
         "share of wrong answers removed by texts": Test(by_text, below(HALF), above(HALF))},
        controls(before, acted, gone[ANSWERS][AGAIN], seed),
        f"Texts remove {by_text.value:.0%} of the {bare}'s wrong answers on average, training {more.value + by_text.value:.0%}. Tripwires "
        f"out of bounds beside the {bare}: {bought}.",
        {f"wrong answers removed, {name}": one for name, one in gone[ANSWERS].items() if name in played},
        {"ladder": Picture("What moves it?", "rung", "share consistent",
                           {told: [(name, consistency(one, what, seed)) for name, one in played.items()]
                            for told, what in (("answers, by the reader", ANSWERS), ("lines, by the ledger", LINES))})},
        {"The ladder": {name: _row(name, one, gone, tripped.get(name, []), trained.get(name), tried[name], seed)
                        for name, one in played.items()}})


def _row(name: str, played: Played, gone: dict, tripped: list[str], trained: Trained | None, tried: list[Played], seed: int) -> dict:
    """A rung's line of the table; its cost is what came before it could be played."""
    row = {"right answers": consistency(played, ANSWERS, seed), "consistent lines": consistency(played, LINES, seed)}
    row |= {f"{told} removed": gone[what][name] for told, what in (("wrong answers", ANSWERS), ("bad lines", LINES)) if name in gone[what]}
    row |= {"drift of lines, a turn": drift(played, LINES, seed), "first bad line, median": over_run(played, FIRST, LINES[1])}
    row |= {wire: over_run(played, wire) for wire in SHOWN} | {"tripwires out of bounds": figure(len(tripped))}
    tokens = trained.training["tokens_learnt"].sum() if trained else sum(one.turns["tokens"].sum() or 0 for one in tried)
    return row | {"tokens learnt or tried": figure(tokens), "seconds before": figure(trained.seconds if trained else seconds(tried)),
                  "trained parameters": figure(trained.parameters if trained else 0)}
