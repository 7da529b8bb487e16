"""Is a user simulator that was trained for consistency less inconsistent on held-out personas, by a judge that gave no
reward?

All arms play the same dialogues with the same held-out personas, and are asked in paraphrases that no training used.
The statistic is the share of the prompted arm's wrong answers to questions about its persona that disappears under the
online method, according to a judge that reads the answers (the rewards come from a judge that looks for words). It
counts only where no tripwire is out of bounds.

Controls: other seeds remove nothing; the tripwires catch a policy that evades, however consistent it is; a policy that
lies is detected. After Abdulhai et al., arXiv 2511.00222.
"""

from __future__ import annotations

from typing import Any

from metrics.studies import dialogue_arms
from metrics.studies.dialogue_arms import ANSWERS, LINES, NOT_EXAMINED, share_text, without_interval
from metrics.studies.protocol import NEVER, Ask, Finding, Picture, PlayedRun, Test, above, below
from scenarios.fields import Count, Some, Strict, Text
from scenarios.records import derive_seed

PROMPT, AGAIN = "prompt only", "other seeds"
SHARE = 0.55  # of the inconsistency that has to go


class TrainingMethod(Strict):
    """A training file and its changes for one method."""

    recipe: Text
    changes: dict[str, Any]


class Stimuli(Strict):
    """The schema of the stimuli file."""

    scenario: Text
    held_out: Some[str]
    exam: dict[str, Any]  # what the exam changes in the scenario
    texts: dict[str, dict[str, Any]]  # arms of the base model
    scripts: dict[str, Some[str]]
    methods: dict[str, TrainingMethod]


def study(
    ask: Ask,
    stimuli: Stimuli,
    seed: int,
    *,
    methods: Some[Text],
    steps: Count,
    dialogues: Count,
    examined: Count,
    turns: Count,
) -> Finding:
    """The finding on the share of wrong answers that training removes.

    `methods` are names from the stimuli file; the claim is about the last one. `dialogues` is the number of dialogues
    per training step, `examined` that of the evaluation; `turns` is the number of turns of a dialogue in both.
    """
    exam = {
        **stimuli.exam,
        "measure.qa_every": turns,
        "persona_pool": stimuli.held_out,
        "conversations": examined,
        "turns": turns,
        "seed": derive_seed(seed, "exam") % 2**31,
    }
    learning = {
        **NOT_EXAMINED,
        "seed": seed,
        "held_out.personas": stimuli.held_out,
        "max_steps": steps,
        "conversations": dialogues,
        "overrides.turns": turns,
    }
    trained: dict[str, Any] = {}
    for name in methods:
        how = stimuli.methods[name]
        offline = [training.worn for other, training in trained.items() if stimuli.methods[other].recipe == how.recipe]
        trained[name] = ask.train(f"{name}, training", how.recipe, {**learning, **how.changes}, offline[:1])
    played = {
        PROMPT: ask.play(PROMPT, stimuli.scenario, exam),
        AGAIN: ask.play(AGAIN, stimuli.scenario, exam | {"seed": derive_seed(seed, "other seeds") % 2**31}),
    }
    played |= {name: ask.play(name, stimuli.scenario, exam | changes) for name, changes in stimuli.texts.items()}
    played |= {name: ask.play(name, stimuli.scenario, exam, training.worn) for name, training in trained.items()}
    acted = {
        name: ask.play(name, stimuli.scenario, exam | {"seats.user.script": words})
        for name, words in stimuli.scripts.items()
    }
    return _finding(played, acted, methods[-1])


def _finding(played: dict[str, PlayedRun], acted: dict[str, PlayedRun], claimed: str) -> Finding:
    before, after = played[PROMPT], {name: run for name, run in played.items() if name != PROMPT}
    removed = {
        what: {name: dialogue_arms.removed(before, [run], what) for name, run in (after | acted).items()}
        for what in (ANSWERS, LINES)
    }
    tripped = {name: dialogue_arms.broken_bounds(run, before) for name, run in (after | acted).items()}
    drifts = {name: dialogue_arms.arm_drift(run, LINES) for name, run in played.items()}
    gone, count = removed[ANSWERS][claimed], len(tripped[claimed])
    bought = f"; out of bounds: {', '.join(tripped[claimed])}" if count else ""
    return Finding(
        {
            f"share of wrong answers removed by {claimed}": Test(gone, above(SHARE), below(SHARE)),
            f"tripwires out of bounds under {claimed}": Test(dialogue_arms.certain(count, gone.n), below(0.5), NEVER),
        },
        dialogue_arms.controls(before, acted, removed[ANSWERS][AGAIN]),
        f"{claimed} removes {share_text(gone)} of the wrong answers and {share_text(removed[LINES][claimed])} of the "
        f"contradicting lines{bought}.",
        {f"right answers, {name}": dialogue_arms.arm_consistency(run, ANSWERS) for name, run in played.items()}
        | {f"consistent lines, {name}": dialogue_arms.arm_consistency(run, LINES) for name, run in played.items()}
        | {f"wrong answers removed, {name}": share for name, share in removed[ANSWERS].items() if name in played}
        | {f"contradicting lines removed, {name}": share for name, share in removed[LINES].items()}
        | {f"slope of contradicting lines per turn, {name}": slope for name, slope in drifts.items()}
        | {
            f"answers that could not be scored, {name}": dialogue_arms.unscored_share(run, ANSWERS)
            for name, run in played.items()
        }
        | {f"tripwires out of bounds, {name}": without_interval(len(broken)) for name, broken in tripped.items()}
        | {
            f"{wire}, {name}": dialogue_arms.over_run(run, wire)
            for wire in ("distinct_2", "relevance", "evasion")
            for name, run in (played | acted).items()
        },
        {
            "removed": Picture(
                "What goes of the prompt's inconsistency",
                "arm",
                "share removed",
                {
                    "answers, by the reader": list(removed[ANSWERS].items())[: len(after)],
                    "lines, by the ledger": list(removed[LINES].items())[: len(after)],
                },
                {"the claim's share": SHARE},
            ),
            "turns": Picture(
                "Does it drift?",
                "turn",
                "contradicting lines",
                {name: dialogue_arms.by_turn(played[name], LINES) for name in (PROMPT, claimed)},
            ),
        },
    )
