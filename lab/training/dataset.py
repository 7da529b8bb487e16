"""The data of an offline training (`data` of a recipe): stored runs, chats, labelled lines and the dialogues of other
trainings, as views whose lines have rewards.

A conversation is used or left out as a whole; it is left out where a held-out persona speaks in either seat. Lines have
log-probabilities (nats) only where a training sampled them.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agents.engine.protocol import Engine
from agents.learning.views import View, at_places
from lab.store.event_log import read_events
from lab.store.resume import stored
from lab.training.collected import COLLECTED, read_views
from lab.training.replay import recited, replayed
from lab.training.rewards import rewarded
from lab.transcripts.judging import judge_all
from lab.transcripts.reading import read_transcripts
from lab.transcripts.transcript import Source, Transcript, own_turns
from metrics.judges import LINES, Judge
from metrics.judges.pair_retrieval import Embed
from scenarios.jobs.recipe import Recipe
from scenarios.jobs.training import held_out_slots, split, without_slots
from scenarios.jobs.training_keys import Reward
from scenarios.personas import load_personas, named_personas
from scenarios.records import Persona, derive_seed
from scenarios.scenario import Scenario, load_scenario

NEED_BAD = ("unlikelihood", "gold", "varmi", "kto")
Known = Mapping[tuple[int, int], Mapping[str, float]]  # (conversation, turn) -> parts of the reward


@dataclass(frozen=True)
class TrainingData:
    """The data of one seat.

    `views` are numbered from 0 in an order drawn from the recipe's seed, each with at least one line from which the
    method learns; `summary` gives their number as a sentence.
    """

    views: list[View]
    summary: str


@dataclass(frozen=True)
class Stock:
    """The conversations of `data`; `left_out` is the number of those in which a held-out persona speaks, which are not
    used.
    """

    views: Mapping[str, list[View]]  # by seat, of trainings' folders
    sources: list[Source]
    left_out: int


def load_training_data(
    recipe: Recipe, scenario: Scenario, seat: str, engine: Engine, judge: Judge, embed: Embed | None
) -> TrainingData:
    """The views that a seat learns from, each line with its reward (range as in `rewards.rewarded`).

    The parts of a reward come from labels where there are any (prompt_to_line then has weight 1 where the recipe gives
    it 0), else from stored judgements (where no slots are held out), else from `judge`, for the parts with a weight.
    Tripwires cost the same penalty as in online training.

    `scenario` is the one that the training plays; `engine` is that of the seat's model. Raises ValueError where there
    is nothing to learn from.
    """
    data, reward = stock(recipe, scenario), recipe.reward
    judged = {metric for metric in LINES if getattr(reward, metric)} | ({"prompt_to_line"} if reward.claims else set())
    scorer: Any = SimpleNamespace(
        judge=lambda pairs: judge_all([judge], [pair for pair in pairs if pair.metric in judged])
    )
    views = list(data.views[seat])
    slots = held_out_slots(recipe)
    for source in data.sources:
        if source.scenario is None:
            talks, known = recited(source, seat, scenario.seats[seat].instruction, engine), _labelled(source)
            weighed = reward.model_copy(update={"prompt_to_line": reward.prompt_to_line or 1.0})
        else:
            talks, known = (
                replayed(source, seat, scenario.seats[seat].model, engine),
                {} if slots else _judged(source, scenario, judge.name),  # judged anew without the held-out slots
            )
            weighed = reward
        talks = [
            replace(talk, cast={name: without_slots(persona, slots) for name, persona in talk.cast.items()})
            for talk in talks
        ]
        views += rewarded(talks, weighed, scorer, embed, known)[0]
    learnt = teaching(views, recipe.method, seat, reward)
    random.Random(derive_seed(recipe.seed, "data")).shuffle(learnt)
    return TrainingData(
        [replace(view, conversation=number) for number, view in enumerate(learnt)], _summary(views, learnt, seat, data)
    )


def stock(recipe: Recipe, scenario: Scenario) -> Stock:
    """The conversations of the recipe's data, checked as far as possible without a model.

    Raises ValueError, with the path and what was expected, where no conversation or no line of a trained seat is left.
    """
    data = _read(recipe, scenario)
    speakers = {view.persona for views in data.views.values() for view in views}
    speakers |= {
        transcript.cast[seat].id for source in data.sources for transcript in source.transcripts for seat in data.views
    }
    out = held_out_personas(recipe, scenario, speakers)
    views = {
        seat: [view for view in seat_views if not out & _heard_in(view)] for seat, seat_views in data.views.items()
    }
    sources = [
        replace(
            source, transcripts=tuple(transcript for transcript in source.transcripts if not out & _cast(transcript))
        )
        for source in data.sources
    ]
    kept = Stock(views, sources, _size(data.views, data.sources) - _size(views, sources))
    if not _size(views, sources):
        names = sorted(
            out & speakers.union(*(_cast(transcript) for source in data.sources for transcript in source.transcripts))
        )
        raise ValueError(
            f"data holds nothing but conversations of personas that are held out ({', '.join(names)}); expected "
            "others, or other held_out.personas"
        )
    for seat in views:
        if not views[seat] and not any(
            own_turns(transcript, seat) for source in sources for transcript in source.transcripts
        ):
            raise ValueError(
                f"data holds no line of the {seat} to learn from; expected lines of the seat that is trained"
            )
        if recipe.method == "dpo" and not any(len(lines) > 1 for view in views[seat] for lines in at_places(view)):
            raise ValueError(
                "dpo compares lines said at the same place, and data holds one at each; expected a training's folder "
                f"with {COLLECTED}, or method=kto"
            )
    return kept


def held_out_personas(recipe: Recipe, scenario: Scenario, speakers: Collection[str]) -> set[str]:
    """The ids of the personas that training must not see.

    They are those of the scenario that the recipe holds out and, where it holds out a share, the same share of the
    `speakers` outside the scenario, of whom at least one stays in training. The draw depends on the recipe's seed.
    """
    kept, out = split(recipe)
    share = recipe.held_out.personas
    strangers = sorted(set(speakers) - {*kept, *out, *(persona.id for persona in named_personas(scenario).values())})
    if isinstance(share, list) or len(strangers) < 2:
        return set(out)
    number = min(round(share * len(strangers)), len(strangers) - 1)
    return {*out, *random.Random(derive_seed(recipe.seed, "held out")).sample(strangers, number)}


def _read(recipe: Recipe, scenario: Scenario) -> Stock:
    """All conversations of `data`, those of held-out personas included. Raises ValueError where a run played a scenario
    that only the evaluation may see.
    """
    apart = {path: load_scenario(path).graph for path in recipe.evaluation.scenario}
    views: dict[str, list[View]] = {seat: [] for seat in recipe.seats()}
    sources, people = [], load_personas(scenario.personas)
    for name in recipe.data:
        if (Path(name) / COLLECTED).is_file():
            for seat in views:
                views[seat] += read_views(Path(name) / COLLECTED, recipe, scenario, seat)
        elif (Path(name) / "checkpoints").is_dir() or (Path(name) / "adapter").is_dir():
            raise ValueError(f"data: {name} is a training that kept no dialogues; expected one that has a {COLLECTED}")
        else:
            source = read_transcripts(name)
            if source.scenario and (seen := [path for path in apart if apart[path] == source.scenario.graph]):
                raise ValueError(
                    f"data: {name} played {source.scenario.name}, the scenario of {seen[0]}, which evaluation.scenario "
                    "keeps from training; expected other data, or another evaluation.scenario"
                )
            known = (
                source.transcripts
                if source.scenario
                else tuple(_recognised(transcript, people) for transcript in source.transcripts)
            )
            sources.append(replace(source, transcripts=known))
    return Stock(views, sources, 0)


def _recognised(transcript: Transcript, people: Sequence[Persona]) -> Transcript:
    """The transcript, in which a speaker whose system text contains the card of one of `people` is that persona, with
    the system text as card.
    """

    def who(persona: Persona) -> Persona:
        return next((replace(known, card=persona.card) for known in people if known.card in persona.card), persona)

    return replace(transcript, cast={seat: who(persona) for seat, persona in transcript.cast.items()})


def _heard_in(view: View) -> set[str]:
    return {view.persona, view.partner} - {""}


def _cast(transcript: Transcript) -> set[str]:
    return {persona.id for persona in transcript.cast.values()}


def teaching(views: Sequence[View], method: str, seat: str, reward: Reward) -> list[View]:
    """The views with lines from which the method can learn. Raises ValueError where none has any."""
    rewards = [line.reward for view in views for line in view.lines if line.reward is not None]
    lines = sum(len(view.lines) for view in views)
    if not any(rewards):
        cure = "another reward.judge" if reward.prompt_to_line else "reward.prompt_to_line=1.0"
        if not reward.prompt_to_line and reward.judge == "ledger":
            cure += " with a judge that reads any card: reward.judge=combined"
        raise ValueError(
            f"data: none of the {lines} lines of the {seat} has a label, or a reward by what the recipe weighs (judge: "
            f"{reward.judge}); expected labelled lines, or {cure}"
        )
    if method == "sft" and max(rewards) <= 0:
        raise ValueError(
            f"data: sft learns from good lines, and none of the {len(rewards)} scored ones has a reward above 0; "
            "expected a reward above 0, or a method that learns from bad lines"
        )
    if method in NEED_BAD and min(rewards) >= 0:
        raise ValueError(
            f"data: {method} learns from bad lines too, and none of the {len(rewards)} scored ones has a reward below "
            "0; expected a reward below 0, or method=sft"
        )
    instructive = [view for view in views if _teaches(view, method)]
    if not instructive:
        raise ValueError(
            f"data: {method} learns from rewards that differ, and the {len(rewards)} scored lines are worth 0, or the "
            "same as others at their places; expected rewards that differ at one place"
        )
    return instructive


def _teaches(view: View, method: str) -> bool:
    if method == "dpo":
        return any(len({line.reward for line in lines} - {None}) > 1 for lines in at_places(view))
    return any(
        line.reward > 0 if method == "sft" else line.reward != 0 for line in view.lines if line.reward is not None
    )


def _summary(views: Sequence[View], learnt: Sequence[View], seat: str, data: Stock) -> str:
    rewards = [line.reward for view in views for line in view.lines]
    scored = [reward for reward in rewards if reward is not None]
    good, bad = sum(reward > 0 for reward in scored), sum(reward < 0 for reward in scored)
    notes = [note for source in data.sources for note in (*source.left_out, *source.notes)]
    parts = [
        f"{len(learnt)} of {len(views)} conversations teach the {seat}",
        f"lines: {len(rewards)}, of them {good} good, {bad} bad, {len(scored) - good - bad} worth 0, "
        f"{len(rewards) - len(scored)} unscored",
        f"conversations of held-out personas, left out: {data.left_out}",
        *notes[:3],
    ]
    return "; ".join(parts + [f"and {len(notes) - 3} more notes"] * (len(notes) > 3))


def _size(views: Mapping[str, Sequence[View]], sources: Sequence[Source]) -> int:
    return sum(map(len, views.values())) + sum(len(source.transcripts) for source in sources)


# -- rewards that are there already


def _labelled(source: Source) -> Known:
    return _parts(
        (transcript.conversation, turn, against, None if label is None else float(label))
        for transcript in source.transcripts
        for (turn, against), label in transcript.labels.items()
    )


def _judged(source: Source, scenario: Scenario, judge: str) -> Known:
    """Reward parts from the judgements that the run stored, where its judge has the name and settings of the one that
    gives rewards; else empty.
    """
    played = source.scenario
    if played is None or getattr(played.measure, judge, None) != getattr(scenario.measure, judge, None):
        return {}
    rows = [
        row
        for (_, _, by), judgements in stored(read_events(source.path)).judged.items()
        if by == "judges"
        for row in judgements
    ]
    return _parts((row.conversation, row.turn, row.against, row.p_inconsistent) for row in rows if row.judge == judge)


def _parts(rows: Iterable[tuple[int, int, str, float | None]]) -> Known:
    """Reward parts by (conversation, turn): 1 - 2 p, -1 to 1, for the largest p_inconsistent p among the rows of a
    line.

    `rows` are (conversation, turn, against, p_inconsistent or None); rows against a single fact are ignored.
    """
    parts_by_line: dict[tuple[int, int], dict[str, float]] = {}
    for conversation, turn, against, p in rows:
        if p is not None and (against == "persona" or against.isdigit()):
            line_parts, name = (
                parts_by_line.setdefault((conversation, turn), {}),
                "prompt_to_line" if against == "persona" else "line_to_line",
            )
            line_parts[name] = min(line_parts.get(name, 1.0), 1 - 2 * p)
    return parts_by_line
