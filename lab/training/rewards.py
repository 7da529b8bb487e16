"""The reward of sampled lines, from judges, answers and tripwires.

reward = weighted mean of the parts that apply to the line, each from -1 (contradicts) to 1 (does not), minus the
penalty where a tripwire is out of bounds. The mean is 0 where no part applies (small talk, where only answers are
rewarded). The reward is None, and the line has no loss, where a part applies but could not be scored and no judge
scored another part.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from math import isnan

import numpy as np
import polars as pl

from agents.learning.views import Sampled, View
from lab.training.reward_parts import REWARDS, Completion, RewardContext, Rollout, reward_entries, scores
from metrics.judges import Judge
from metrics.judges.answer_words import is_right
from metrics.judges.pair_retrieval import Embed
from metrics.judges.text.wording import NAME
from metrics.tripwires import MOST_PARROTING, LogProbs, line_wires, tripwires
from scenarios.jobs.training_keys import Reward
from scenarios.records import PARTNER

PENALISED = {"parroting": MOST_PARROTING, "wrong_person": 0.0, "helper_voice": 0.0, "evasion": 0.0}  # wire -> bound
MOST_FACTS = 2  # that a line may name, besides the speaker's name


def sampled(talk: Rollout) -> list[Sampled]:
    """All sampled lines of the rollout, including side branches and answers to Q&A probes, without empty ones."""
    return [
        Sampled(
            spoken.turn,
            spoken.start,
            sample.token_ids,
            sample.drawn,
            place == 0 and not spoken.about,
            spoken.given,
            text.strip(),
            spoken.about,
        )
        for spoken in talk.spoken
        for place, (sample, text) in enumerate(zip(spoken.samples, spoken.texts, strict=True))
        if sample.token_ids
    ]


def rewarded(
    talks: Sequence[Rollout],
    reward: Reward,
    judge: Judge,
    embed: Embed | None,
    known: Mapping[tuple[int, int], Mapping[str, float]] | None = None,
) -> tuple[list[View], dict[str, float]]:
    """The views with the reward of each line, and means for the log.

    The range of a reward is -1 - penalty to 1, or None. The log has `reward_<part>`, `reward`, `penalised` (share of
    lines), `lines`, `unscored` (counts) and `length` (tokens); a mean over nothing is NaN. `known` gives parts by
    (conversation, turn), for which the judge is not asked. Raises ValueError like `scores`.
    """
    completions = [Completion(talk, line) for talk in talks for line in sampled(talk)]
    spoken = [completion for completion in completions if not completion.line.about]
    for completion in spoken:
        completion.parts |= (known or {}).get((completion.talk.number, completion.line.turn), {})
    entries = reward_entries(reward)
    context = RewardContext(judge, embed, [entry.judged for entry in entries if entry.judged])
    for entry in entries:
        lines = completions if entry.probes else spoken
        for completion, score in zip(lines, scores(entry, lines, context), strict=True):
            if score is not None and isnan(score):
                completion.missed = True
            elif score is not None:
                completion.parts[entry.name] = score
    for completion in completions:
        completion.penalty = float(_trips(completion))
    judged = {entry.name for entry in entries if entry.judged}
    totals = [_total(completion, reward, judged) for completion in completions]
    views = []
    for talk in talks:
        lines = [
            replace(completion.line, reward=total)
            for completion, total in zip(completions, totals, strict=True)
            if completion.talk is talk
        ]
        views.append(
            View(talk.number, talk.cast[talk.seat].id, talk.ids, tuple(lines), talk.cast[PARTNER[talk.seat]].id)
        )
    return views, _means(completions, totals, reward)


def tripwire_means(
    talks: Sequence[Rollout], seat: str, *, embed: Embed | None, logprobs: LogProbs | None
) -> dict[str, float]:
    """The mean of each tripwire over the lines of the seat that its model wrote, by tripwire; see
    `metrics.tripwires`.
    """
    said = pl.DataFrame([asdict(line) for talk in talks for line in talk.lines], infer_schema_length=None)
    cards = {(talk.number, name): persona.card for talk in talks for name, persona in talk.cast.items()}
    means = tripwires(
        said,
        cards,
        counted=said.filter(pl.col("seat") == seat, pl.col("logprob").is_not_null()),
        embed=embed,
        logprobs=logprobs,
        confidence=0.95,
    )
    return dict(means.filter(pl.col("level") == "run", pl.col("seat") == seat).select("metric", "value").iter_rows())


def _trips(completion: Completion) -> bool:
    """Whether a tripwire is out of bounds: card overlap, recited facts, a person error, assistant style, or no
    information.
    """
    persona = completion.persona
    if sum(is_right(completion.text, fact) for fact in persona.facts if fact.id != NAME) > MOST_FACTS:
        return True
    wires = line_wires(completion.text, persona.card, completion.heard)
    return any(wires.get(name, 0) > most for name, most in PENALISED.items())


def _total(completion: Completion, reward: Reward, judged: Collection[str]) -> float | None:
    """The reward; None where a part that applies could not be scored and no judge scored another part."""
    weights = {name: weight for name in completion.parts if (weight := reward.weights().get(name))}
    if completion.missed and not weights.keys() & judged:
        return None
    mean = (
        sum(weight * completion.parts[name] for name, weight in weights.items()) / sum(weights.values())
        if weights
        else 0.0
    )
    return mean - reward.penalty * completion.penalty


def _means(completions: Sequence[Completion], totals: Sequence[float | None], reward: Reward) -> dict[str, float]:
    """The figures of a step for the log; the mean of no values is NaN."""

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else float("nan")

    parts = dict.fromkeys((*REWARDS, *reward.weights()))
    means = {
        f"reward_{name}": mean([completion.parts[name] for completion in completions if name in completion.parts])
        for name in parts
    }
    scored = [
        total
        for completion, total in zip(completions, totals, strict=True)
        if total is not None and (completion.parts or completion.penalty)
    ]
    return means | {
        "reward": mean(scored),
        "penalised": mean([completion.penalty for completion in completions]),
        "lines": float(len(completions)),
        "unscored": float(totals.count(None)),
        "length": mean([float(len(completion.line.ids)) for completion in completions]),
    }


def examples(talks: Sequence[Rollout], views: Sequence[View]) -> dict[str, dict]:
    """The best and the worst dialogue by the mean reward of its trained seat's lines: that reward and the last four
    lines.
    """

    def mean(view: View) -> float | None:
        scored = [line.reward for line in view.lines if line.on_trunk and line.reward is not None]
        return sum(scored) / len(scored) if scored else None

    ranked = sorted(((mean(view), place) for place, view in enumerate(views) if mean(view) is not None))
    return (
        {
            name: {"reward": reward, "lines": [[line.seat, line.text] for line in talks[place].lines[-4:]]}
            for name, (reward, place) in (("worst", ranked[0]), ("best", ranked[-1]))
        }
        if ranked
        else {}
    )
