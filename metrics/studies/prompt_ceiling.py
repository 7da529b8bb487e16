"""The ceiling of prompts: how many unknown facts does the best of many prompts recover?

The facts are invented by the seed, so that a model without help is correct in a quarter of them; a prompt that added
knowledge would be correct in more. The best prompt is chosen on a development split. Familiar facts that the model
misses at first are asked again; since chance alone corrects some of them, the invented facts missed at first give the
rate of such corrections.

Controls: without help the model is at chance; the same facts in the prompt, and in a trained adapter, are answered
correctly. The claim is common in surveys (arXiv 2502.10708).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import softmax

from metrics.stats.differences import difference_of
from metrics.studies.invented_facts import FactQuestion, Facts, Talk, familiar, gains, hits, invented, talk_of
from metrics.studies.prompt_search import combined, proposed, search
from metrics.studies.protocol import (
    Ask,
    Control,
    Finding,
    Lesson,
    Picture,
    StudyQuestion,
    Teaching,
    Test,
    above,
    below,
    mean_of,
    proportion_of,
)
from scenarios.fields import Count, Some, Text
from scenarios.records import derive_seed

# of four options; over chance: what a gain would have to be to matter, what it is to know
CHANCE, GAIN, FAR = (
    0.25,
    0.15,
    0.25,
)
ZERO, ROLE, SHOTS, THOUGHT = "zero-shot", "role", "irrelevant examples", "chain of thought"
BEST, CONTEXT, TAUGHT = "best prompt", "fact in context", "fact taught"
INVENTED, FAMILIAR = "invented", "familiar"
CURVES = {INVENTED: INVENTED, FAMILIAR: "familiar, missed at first"}


class Stimuli(Facts):
    """The schema of the stimuli file."""

    role: Text
    think: Text
    shots: Some[Annotated[list[Text], Field(min_length=2, max_length=2)]]  # a question and its answer
    rules: Some[Some[str]]  # a prompt takes one of each
    request: Text


def study(
    ask: Ask,
    stimuli: Stimuli,
    seed: int,
    *,
    facts: Annotated[int, Field(ge=3)],
    takes: Count,
    budget: Count,
    taught: Count,
    steps: Count,
    thought: Count,
) -> Finding:
    """The finding on what the best prompt gains on invented facts.

    - `facts`: facts of each kind, a third of them for the search of prompts; familiar ones are those missed among three
      times as many.
    - `takes`: prompts that the model proposes.
    - `budget`: scores that the search may use.
    - `taught`, `steps`: facts that the adapter is trained on, and training steps.
    - `thought`: tokens of a chain of thought.
    """
    prompts = combined(*stimuli.rules) + proposed(ask, "prompts proposed", stimuli.request, takes, seed)
    shots = [turn for asked, reply in stimuli.shots for turn in (("user", asked), ("assistant", reply))]
    plain, best = talk_of(), {}  # by kind, the prompt that was found
    # by kind and arm, which held-out facts are right
    right: dict[str, dict[str, np.ndarray]] = {
        INVENTED: {},
        FAMILIAR: {},
    }
    for kind, facts_of_kind in (
        (INVENTED, invented(stimuli, seed, facts)),
        (FAMILIAR, familiar(stimuli, seed, 3 * facts)),
    ):
        first = hits(gains(ask, f"{kind}, {ZERO}", [(plain, fact) for fact in facts_of_kind]))
        if kind == FAMILIAR:
            facts_of_kind, first = (
                [fact for fact, hit in zip(facts_of_kind, first, strict=True) if hit < 0.5][:facts],
                first[first < 0.5][:facts],
            )
        cut = len(facts_of_kind) // 3
        if cut == 0:
            continue  # who misses next to nothing
        tried, held = facts_of_kind[:cut], facts_of_kind[cut:]
        best[kind] = search(
            prompts,
            lambda names, places, kind=kind, tried=tried: _scored(
                ask, f"{kind}, search", names, [tried[n] for n in places]
            ),
            cut,
            budget=budget,
        ).best
        arms = {
            ROLE: talk_of(stimuli.role),
            SHOTS: talk_of(shots=shots),
            BEST: talk_of(best[kind]),
            THOUGHT: _thinking(ask, f"{kind}, thoughts", held, stimuli.think, thought, seed),
        }
        if kind == INVENTED:
            arms[CONTEXT] = talk_of(notes={fact.subject: f"{fact.sentence} " for fact in held})
        right[kind] = {ZERO: first[cut:]} | {
            arm: hits(gains(ask, f"{kind}, {arm}", [(talk, fact) for fact in held])) for arm, talk in arms.items()
        }
        if kind == INVENTED:
            # many of a relation, or it would do to learn a value
            learnt = sorted(held, key=lambda fact: fact.relation.stem)[:taught]
            lessons = [Lesson(plain(fact.relation, fact.subject)[:-1], fact.sentence) for fact in learnt]
            worn = ask.teach(
                "lessons", lessons, Teaching(steps, 4, learning_rate=2e-3, seed=derive_seed(seed, "lessons"))
            )
            right[kind][TAUGHT] = hits(gains(ask, f"{kind}, {TAUGHT}", [(plain, fact) for fact in learnt], worn))

    over = {kind: {arm: proportion_of(hit, CHANCE) for arm, hit in by_arm.items()} for kind, by_arm in right.items()}
    of, (zero, gain, context, lesson) = right[INVENTED], (over[INVENTED][arm] for arm in (ZERO, BEST, CONTEXT, TAUGHT))
    again = np.concatenate([right[FAMILIAR].get(BEST, []), missed := of[BEST][of[ZERO] < 0.5]])
    return Finding(
        {"accuracy of the best prompt on invented facts, over chance": Test(gain, below(GAIN), above(0))},
        {
            "nobody knows invented facts": Control(zero, below(GAIN), "over chance"),
            "a fact in the prompt is found": Control(context, above(FAR), "over chance"),
            "a fact that was taught is found": Control(lesson, above(FAR), "over chance"),
        },
        f"The best of {len(prompts)} prompts is {gain.value:+.0%} over chance on {gain.n} invented facts, "
        f"{zero.value:+.0%} without it; in the prompt they are {context.value:+.0%}, taught {lesson.value:+.0%}. It "
        f"reads “{best[INVENTED] or '(nothing)'}”.",
        {
            "best prompt less zero-shot, invented": mean_of(of[BEST] - of[ZERO]),
            "fact in context less best prompt, invented": mean_of(of[CONTEXT] - of[BEST]),
            "missed facts mended by the best prompt, familiar less invented": difference_of(
                again[len(again) - len(missed) :], again[: len(again) - len(missed)]
            ),
            **{
                f"{kind}, {arm}, over chance": interval
                for kind, by_arm in over.items()
                for arm, interval in by_arm.items()
            },
        },
        {
            "accuracy": Picture(
                "What prompts, context and training add",
                "arm",
                "accuracy over chance",
                {name: list(over[kind].items()) for kind, name in CURVES.items() if over[kind]},
                {"chance": 0.0, "would matter": GAIN},
            )
        },
    )


def _thinking(ask: Ask, arm: str, items: Sequence[FactQuestion], think: str, thought: int, seed: int) -> Talk:
    """Messages with a sampled chain of thought before the answer, for the neutral subject as well."""
    of = {
        (item.relation.stem, subject): item.relation
        for item in items
        for subject in (item.relation.nobody, item.subject)
    }
    asked = [
        StudyQuestion(
            relation.asked.format(subject),
            (("user", f"{relation.asked.format(subject)} {think}"),),
            (),
            subject,
            derive_seed(seed, "thought", stem, subject),
        )
        for (stem, subject), relation in of.items()
    ]
    said = ask.say(arm, asked, max_tokens=thought)
    return talk_of(words={key: f"{' '.join(text.split())} So: " for key, text in zip(of, said, strict=True)})


def _scored(ask: Ask, arm: str, prompts: Sequence[str], items: Sequence[FactQuestion]) -> np.ndarray:
    """(prompts, items) softmax of the options' gains at the true option: smoother than correct or not."""
    gained = gains(ask, arm, [(talk_of(prompt), item) for prompt in prompts for item in items])
    return softmax(gained, 1)[:, 0].reshape(len(prompts), -1)
