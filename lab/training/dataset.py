"""What `data` of a training names: stored runs, chats, labelled lines and other trainings' dialogues, as views whose
lines have rewards.

Conversations are kept or left out as a whole: no one who is held out speaks in any that comes back, on neither seat.
Log-probabilities of lines are known where a training sampled them, and nowhere else.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

from pydantic import BaseModel, ValidationError

from agents.engine.protocol import Engine
from agents.learning.views import View, at_places
from lab.store import atomic_write
from lab.store.event_log import read_events
from lab.store.resume import stored
from lab.training.replay import base_of, recited, replayed
from lab.training.rewards import rewarded
from lab.transcripts.judging import judge_all
from lab.transcripts.reading import read_transcripts
from lab.transcripts.transcript import Source, Transcript, own_turns
from metrics.judges import Judge
from metrics.judges.pair_retrieval import Embed
from scenarios.fields import Strict
from scenarios.jobs.training import Recipe, Reward, split
from scenarios.personas import load_personas
from scenarios.records import SEATS, Persona, derive_seed
from scenarios.scenario import Scenario
from scenarios.schema import SeatConfig

COLLECTED = "collected.jsonl"  # in a training's folder: what the untouched model played, to learn from offline
NEED_BAD = ("unlikelihood", "gold", "varmi", "kto")
Known = Mapping[tuple[int, int], Mapping[str, float]]  # (conversation, turn) -> parts of the reward


@dataclass(frozen=True)
class TrainingData:
    """What a seat learns from offline. `views` are numbered from 0 in an order drawn from the recipe's seed, and each has at
    least one line that the method learns from; `summary` counts them in words for display.
    for people.
    """

    views: list[View]
    summary: str


@dataclass(frozen=True)
class Stock:
    """What `data` holds, without conversations in which a held-out persona speaks: `left_out` of them."""

    views: Mapping[str, list[View]]  # by seat, of trainings' folders
    sources: list[Source]
    left_out: int


def load_training_data(
    recipe: Recipe, scenario: Scenario, seat: str, engine: Engine, judge: Judge, embed: Embed | None
) -> TrainingData:
    """What that seat learns from. A label takes the judge's place, with a weight of 1 where the recipe weighs
    prompt_to_line at 0; so does a judgement that the run stored; what is left is judged now, as far as the recipe
    weighs it. Wires cost what they cost in training.

    `scenario`: as training plays it; `engine`: of the seat's model. ValueError: one sentence where there is nothing to
    learn from.
    """
    data, reward = stock(recipe, scenario), recipe.reward
    scorer = SimpleNamespace(
        judge=lambda pairs: judge_all([judge], [pair for pair in pairs if getattr(reward, pair.metric)])
    )
    views = list(data.views[seat])
    for source in data.sources:
        if source.scenario is None:
            talks, known = recited(source, seat, scenario.seats[seat].instruction, engine), _labelled(source)
            weighed = reward.model_copy(update={"prompt_to_line": reward.prompt_to_line or 1.0})
        else:
            talks, known = (
                replayed(source, seat, scenario.seats[seat].model, engine),
                _judged(source, scenario, judge.name),
            )
            weighed = reward
        views += rewarded(talks, weighed, scorer, embed, known)[0]
    learnt = teaching(views, recipe.method, seat, reward)
    random.Random(derive_seed(recipe.seed, "data")).shuffle(learnt)
    return TrainingData(
        [replace(view, conversation=number) for number, view in enumerate(learnt)], _summary(views, learnt, seat, data)
    )


def stock(recipe: Recipe, scenario: Scenario) -> Stock:
    """Everything that can be said of the data before a model is loaded. ValueError: one sentence with path and what was
    expected.
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
            "others, or "
            "other held_out.personas"
        )
    for seat in views:
        if not views[seat] and not any(
            own_turns(transcript, seat) for source in sources for transcript in source.transcripts
        ):
            raise ValueError(
                f"data holds no line of the {seat} to learn from; expected some of the seat that is trained"
            )
        if recipe.method == "dpo" and not any(len(lines) > 1 for view in views[seat] for lines in at_places(view)):
            raise ValueError(
                "dpo compares lines said at the same place, and data holds one at each; expected a training's folder "
                "with "
                f"{COLLECTED}, or method=kto"
            )
    return kept


def held_out_personas(recipe: Recipe, scenario: Scenario, speakers: Collection[str]) -> set[str]:
    """Ids of personas that training must not see: those that the recipe holds out of the scenario's, and where it holds
    out a share, the same share of the `speakers` who are none of the scenario's, though never all of them.
    """
    kept, out = split(recipe)
    share = recipe.held_out.personas
    strangers = sorted(set(speakers) - {*kept, *out, *(scenario.seats[seat].persona for seat in SEATS)})
    if isinstance(share, list) or len(strangers) < 2:
        return set(out)
    number = min(round(share * len(strangers)), len(strangers) - 1)
    return {*out, *random.Random(derive_seed(recipe.seed, "held out")).sample(strangers, number)}


def _read(recipe: Recipe, scenario: Scenario) -> Stock:
    """Everything, nobody left out yet."""
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
            known = (
                source.transcripts
                if source.scenario
                else tuple(_recognised(transcript, people) for transcript in source.transcripts)
            )
            sources.append(replace(source, transcripts=known))
    return Stock(views, sources, 0)


def _recognised(transcript: Transcript, people: Sequence[Persona]) -> Transcript:
    """Who is known by a text that holds the card of one of the scenario's people is that one, as read under that
    text.
    """

    def who(persona: Persona) -> Persona:
        return next((replace(known, card=persona.card) for known in people if known.card in persona.card), persona)

    return replace(transcript, cast={seat: who(persona) for seat, persona in transcript.cast.items()})


def _heard_in(view: View) -> set[str]:
    return {view.persona, view.partner} - {""}


def _cast(transcript: Transcript) -> set[str]:
    return {persona.id for persona in transcript.cast.values()}


def teaching(views: Sequence[View], method: str, seat: str, reward: Reward) -> list[View]:
    """The views that hold what the method learns from. ValueError: one sentence where none does."""
    rewards = [line.reward for view in views for line in view.lines if line.reward is not None]
    lines = sum(len(view.lines) for view in views)
    if not any(rewards):
        cure = "another reward.judge" if reward.prompt_to_line else "reward.prompt_to_line=1.0"
        if not reward.prompt_to_line and reward.judge == "ledger":
            cure += " with a judge that reads any card: reward.judge=likelihood"
        raise ValueError(
            f"data: none of the {lines} lines of the {seat} has a label, or a reward by what the recipe weighs (judge: "
            f"{reward.judge}); expected labelled lines, or {cure}"
        )
    if method == "sft" and max(rewards) <= 0:
        raise ValueError(
            f"data: sft learns from good lines, and none of the {len(rewards)} scored ones has a reward above 0; "
            "expected "
            "some, or a method that learns from bad ones"
        )
    if method in NEED_BAD and min(rewards) >= 0:
        raise ValueError(
            f"data: {method} learns from bad lines too, and none of the {len(rewards)} scored ones has a reward below "
            "0; "
            "expected some, or method=sft"
        )
    instructive = [view for view in views if _teaches(view, method)]
    if not instructive:
        raise ValueError(
            f"data: {method} learns from rewards that differ, and the {len(rewards)} scored lines are worth 0, or the "
            "same as "
            "others at their places; expected some that are not"
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
    """Of the run's own judge, where it is the one that gives rewards, with the same settings."""
    if getattr(source.scenario.measure, judge, None) != getattr(scenario.measure, judge, None):
        return {}
    rows = [
        row
        for (_, _, by), judgements in stored(read_events(source.path)).judged.items()
        if by == "judges"
        for row in judgements
    ]
    return _parts((row.conversation, row.turn, row.against, row.p_inconsistent) for row in rows if row.judge == judge)


def _parts(rows: Iterable[tuple[int, int, str, float | None]]) -> Known:
    """The worst of each part, 1 - 2 p, from (conversation, turn, against, p_inconsistent); rows by fact are detail."""
    parts_by_line: dict[tuple[int, int], dict[str, float]] = {}
    for conversation, turn, against, p in rows:
        if p is not None and (against == "persona" or against.isdigit()):
            line_parts, name = (
                parts_by_line.setdefault((conversation, turn), {}),
                "prompt_to_line" if against == "persona" else "line_to_line",
            )
            line_parts[name] = min(line_parts.get(name, 1.0), 1 - 2 * p)
    return parts_by_line


# -- a training's own file


class _Head(Strict):
    """How the lines came about, and what they are worth by."""

    scenario: str  # its name
    models: dict[Literal[SEATS], str]  # who spoke
    views: dict[Literal[SEATS], int]
    reward: Reward
    paraphrase: int  # of questions, which was held out


class _Row(Strict):
    seat: Literal[SEATS]
    view: View


def write_views(path: Path, recipe: Recipe, scenario: Scenario, views: Mapping[str, Sequence[View]]) -> None:
    """A line that tells who spoke, what the lines are worth by and how many views follow, by seat, then a line a view;
    whole or not at all. StoreError.
    """
    head = _Head(
        scenario=scenario.name,
        models={seat: _speaker(scenario.seats[seat]) for seat in SEATS},
        views={seat: len(seat_views) for seat, seat_views in views.items()},
        reward=recipe.reward,
        paraphrase=recipe.held_out.paraphrase,
    )
    rows = [{"seat": seat, "view": asdict(view)} for seat, seat_views in views.items() for view in seat_views]
    atomic_write.replace(
        path, b"".join(atomic_write.dumps(row) + b"\n" for row in (head.model_dump(mode="json"), *rows))
    )


def read_views(path: Path, recipe: Recipe, scenario: Scenario, seat: str) -> list[View]:
    """The views of that seat. ValueError: one sentence with file and line where it is damaged, another model or seat
    spoke, or its lines have other rewards than the recipe gives.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror or error}); expected the dialogues of a training"
        ) from None
    head = _checked(path, 1, lines[0] if lines else b"", _Head)
    rows = [_checked(path, number, line, _Row) for number, line in enumerate(lines[1:], start=2)]
    views_by_seat = {name: [row.view for row in rows if row.seat == name] for name in head.views}
    if {name: len(seat_views) for name, seat_views in views_by_seat.items()} != head.views or len(rows) != sum(
        head.views.values()
    ):
        raise ValueError(
            f"{path}, line {len(lines)}: the file ends after {len(rows)} views; expected the "
            f"{sum(head.views.values())} that "
            "its first line tells of"
        )
    if seat not in views_by_seat:
        raise ValueError(
            f"{path}, line 1: holds dialogues of the {' and the '.join(views_by_seat)}; expected some of the {seat}"
        )
    if head.models[seat] != (own := _speaker(scenario.seats[seat])):
        raise ValueError(
            f"{path}, line 1: the {seat} was played by {head.models[seat]}; expected {own}, which is trained here: "
            "other models have other tokens"
        )
    kept, wanted = _worth(head.reward, head.paraphrase), _worth(recipe.reward, recipe.held_out.paraphrase)
    if other := [key for key in kept if kept[key] != wanted[key]]:
        was, here = _set(kept, other), _set(wanted, other)
        raise ValueError(
            f"{path}, line 1: its lines were asked and rewarded with {was}, not with {here} as here; expected {was} "
            "in this "
            "training too, or other data"
        )
    return views_by_seat[seat]


def _worth(reward: Reward, paraphrase: int) -> dict[str, object]:
    return {f"reward.{key}": value for key, value in reward.model_dump(mode="json").items()} | {
        "held_out.paraphrase": paraphrase
    }


def _set(settings: Mapping[str, object], keys: Sequence[str]) -> str:
    """As a command line sets them."""
    return " ".join(f"{key}={settings[key]}" for key in keys)


def _speaker(spec: SeatConfig) -> str:
    if spec.script is not None:
        return "a script"
    if spec.endpoint:
        return f"{spec.adapter or spec.model} at {spec.endpoint}"
    worn = spec.adapter or spec.model.partition(":")[2]
    return base_of(spec.model) + (f" with {worn}" if worn else "")


def _checked(path: Path, number: int, line: bytes, kind: type[BaseModel]):
    expected = "the head of a training's dialogues" if kind is _Head else "a view with its lines"
    try:
        record = kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"{path}, line {number}: {f'{key}: ' if key else ''}{first['msg']}; expected {expected}"
        ) from None
    if isinstance(record, _Row):
        for sampled in record.view.lines:
            stands = (
                record.view.ids[sampled.start : sampled.start + len(sampled.ids)] == sampled.ids
                if sampled.on_trunk
                else sampled.start <= len(record.view.ids)
            )
            if not sampled.ids or sampled.start < 1 or not stands or len(sampled.logprobs) not in (0, len(sampled.ids)):
                raise ValueError(
                    f"{path}, line {number}: the line of turn {sampled.turn} is not what stands in its view; expected "
                    f"{expected}"
                )
    return record
