"""The evaluation of a training: the base model, the trained model and further arms play dialogues with the same
personas, questions and seeds, scored by judges that gave no reward.

reduction = 1 - (1 - consistency of the arm) / (1 - consistency of the base model), the relative reduction of
inconsistency, over the same personas on both sides. It is at most 1; below 0 the arm is worse; NaN where the base model
contradicted nothing. The units of all intervals are personas, each with all its dialogues.

Held out are personas, a paraphrase of the questions and, where the recipe says so, slots of facts. Held-out personas
are asked, in dialogues and Q&A probes, in the paraphrase that training never used. Answers about facts of held-out
slots are a measure of their own.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from agents.engine.protocol import Engine
from lab.dialogue.judges import judges
from lab.dialogue.notices import run_notices
from lab.dialogue.seats import engine_name
from lab.dialogue.wiring import Setup, set_up_on
from lab.store.frames import EVALUATED_PEOPLE, EVALUATION
from lab.store.run_store import create
from lab.training.rewards import PENALISED
from lab.training.rollouts import trained
from metrics import UNSCORED
from metrics.catalogue import CONSISTENCIES, EVALUATED, QA_UNSEEN
from metrics.conversation_sums import Key, mean, of_run
from metrics.judges import Judge, answer_words
from metrics.measure import measure_run
from metrics.stats.differences import inconsistency_left
from metrics.stats.intervals import Interval, clustered_statistic, complement
from metrics.stats.shares import share_of_counts
from metrics.tripwires import SHARES, TRIPWIRES
from scenarios import personas as people
from scenarios.jobs.recipe import Recipe, all_played, elsewhere, played
from scenarios.jobs.training import held_out_slots, other_speaker, pool, split
from scenarios.records import SEATS, Persona, derive_seed
from scenarios.scenario import Scenario
from scenarios.schema import Measure
from scenarios.yaml_files import ScenarioError

BASE = "base"
JUDGED_BY = {"judge", "nli", "llm", "cascade"}  # keys of a scenario's measure that judges are made from


@dataclass(frozen=True)
class EvaluationPlace:
    """A scenario with a set of personas, in which all arms are evaluated."""

    label: str
    held_out: bool
    number: int = 0  # of the training's scenario
    other: str = ""  # path of a scenario that is not trained on, in its place


@dataclass(frozen=True)
class EvaluationCondition:
    """One arm in one scenario with one set of personas; `trained` says whether it uses the trained adapter."""

    arm: str
    scenario: Scenario
    held_out: bool
    trained: bool
    label: str  # arm and people, for display and file names


@dataclass(frozen=True)
class ConditionResult:
    """The results of one condition.

    `rows` are the metrics of the trained seats; `sums` holds (consistent, scored), shape (2,), by metric key and
    persona id.
    """

    condition: EvaluationCondition
    rows: pl.DataFrame
    sums: Mapping[Key, Mapping[str, np.ndarray]]
    failed: int = 0  # conversations that broke off; what was said in them counts


def evaluation_conditions(recipe: Recipe) -> list[EvaluationCondition]:
    """The conditions to evaluate: the base model, the trained model and every arm of `evaluation.arms`.

    Each has held-out personas in every scenario of the training; with `evaluation.as_learnt` also the personas of
    training, and for every `evaluation.scenario` also that scenario with held-out personas. Raises ScenarioError where
    an arm or another scenario cannot be played.
    """
    if taken := {BASE, recipe.method} & recipe.evaluation.arms.keys():
        raise ScenarioError(
            f"names an arm {taken.pop()!r}, which is there anyway; expected another name", ("evaluation", "arms")
        )
    for name, overrides in recipe.evaluation.arms.items():
        if strange := next((key for key in overrides if not key.startswith(("seats.", "graph."))), None):
            raise ScenarioError(
                f"sets {strange}; expected keys of seats and graph only: all else is the same in every arm",
                ("evaluation", "arms", name),
            )
    conditions = []
    for name, overrides in {BASE: {}, recipe.method: {}, **recipe.evaluation.arms}.items():
        for place in _places(recipe):
            scenario = _scenario(recipe, name, overrides, place)
            conditions.append(
                EvaluationCondition(name, scenario, place.held_out, name == recipe.method, f"{name}, {place.label}")
            )
    return conditions


def _places(recipe: Recipe) -> list[EvaluationPlace]:
    """The places of an evaluation, in their order."""
    trained = [f"{scenario.name}, " for scenario in all_played(recipe)] if len(recipe.scenario) > 1 else [""]
    kinds = [("held out", True)] + [("as learnt", False)] * recipe.evaluation.as_learnt
    here = [
        EvaluationPlace(f"{name}{kind}", held_out, number=number)
        for kind, held_out in kinds
        for number, name in enumerate(trained)
    ]
    return here + [EvaluationPlace(Path(path).stem, True, other=path) for path in recipe.evaluation.scenario]


def _scenario(recipe: Recipe, arm: str, overrides: Mapping[str, object], place: EvaluationPlace) -> Scenario:
    evaluation, (learnt, unseen), held_out = recipe.evaluation, split(recipe), place.held_out
    load = partial(elsewhere, recipe, place.other) if place.other else partial(played, recipe, place.number)
    people_there = unseen if held_out else learnt
    try:
        whole = load()
        turns = evaluation.turns or whole.turns
        scenario = load(
            **{
                "seed": derive_seed(recipe.seed, "examination", held_out) % 2**31,  # its first name: figures stay
                "conversations": evaluation.conversations,
                "persona_pool": people_there if place.other else pool(whole, people_there),
                "measure.metrics": [*CONSISTENCIES, "tripwires"],
                "measure.judge": evaluation.judge,
                "measure.qa_format": ["multiple_choice", "free_text"],
                "turns": turns,
                "measure.qa_every": turns,  # after the first line and the last
                **overrides,
            },
        )
    except ScenarioError as error:
        at = ("evaluation", "scenario") if place.other and arm == BASE else ("evaluation", "arms", arm)
        raise ScenarioError(f"cannot be played: {error}", at) from error
    at = ("evaluation", "scenario") if place.other else ("evaluation", "judge")
    reward = recipe.reward
    if (reward.prompt_to_line or reward.line_to_line or reward.claims) and reward.judge in scenario.measure.judges():
        raise ScenarioError(
            f"has {reward.judge!r}, which gives the rewards; expected other judges, in a cascade too", at
        )
    if place.other and arm == BASE:
        _comparable(recipe, scenario)
    return scenario


def _comparable(recipe: Recipe, other: Scenario) -> None:
    """Raises ScenarioError where the trained seats cannot be evaluated in the other scenario."""
    here, at = played(recipe), ("evaluation", "scenario")
    for seat in recipe.seats():
        there, model = other.seats[seat], here.seats[seat].model
        if reason := other_speaker(there):
            raise ScenarioError(f"has {reason} speak for the {seat}; expected {model!r}, which is trained", at)
        if engine_name(there) != engine_name(here.seats[seat]):
            raise ScenarioError(f"has {there.model!r} for the {seat}; expected {model!r}, which is trained", at)


def evaluate_all(
    recipe: Recipe, engines: Mapping[str, Engine], aids: Mapping, folder: Path
) -> Iterator[tuple[str, pl.DataFrame, pl.DataFrame]]:
    """Evaluates all conditions in order; yields (label, two tables of the conditions done) before each, and with "" as
    its label at the end.

    The tables are those of `evaluation_frame` and `people_frame`. Dialogues are stored as one run per condition below
    `folder`, which is emptied first. Raises StoreError where they cannot be written.
    """
    results: list[ConditionResult] = []
    judged_by: dict[str, list[Judge]] = {}  # by what a scenario says of them: each keeps what it has read in its engine
    shutil.rmtree(folder, ignore_errors=True)
    for number, condition in enumerate(evaluation_conditions(recipe)):
        yield condition.label, evaluation_frame(recipe, results), people_frame(results)
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", condition.label)
        scenario = condition.scenario
        key = scenario.measure.model_dump_json(include=JUDGED_BY)
        if key not in judged_by:
            judged_by[key] = judges(scenario.measure, engines, scenario.device)
        results.append(evaluate(recipe, condition, engines, aids, folder / f"{number}-{slug}", judged_by[key]))
    yield "", evaluation_frame(recipe, results), people_frame(results)


def evaluate(
    recipe: Recipe,
    condition: EvaluationCondition,
    engines: Mapping[str, Engine],
    aids: Mapping,
    folder: Path,
    judged_by: Sequence[Judge],
) -> ConditionResult:
    """Plays the dialogues of a condition, stores them as a run in `folder`, and measures them. Raises StoreError."""
    setup = staged(recipe, condition, engines, judged_by)
    scenario, how = condition.scenario, condition.scenario.measure
    info = engines[engine_name(scenario.seats[recipe.seats()[0]])].info()
    with create(
        folder.parent,
        scenario.name,
        scenario.resolved_yaml(),
        scenario.seed,
        scenario.digest(),
        folder=folder,
        models={seat: scenario.seats[seat].model for seat in SEATS},
    ) as store:
        store.append(
            {
                "event": "started",
                **setup.opening(),
                "run_id": store.run_id,
                "device": info.device,
                "dtype": info.dtype,
            }
        )
        store.append({"event": "phase", "phase": "playing", "detail": condition.label})
        for event in run_notices(scenario).after(setup.play.events()):
            store.append(event)
        frames = store.frames()
        turns, judgements = frames["turns"], frames["judgements"]
        rows = measure_run(
            turns,
            judgements,
            metrics=how.metrics,
            window=how.window,
            confidence=how.confidence,
            **aids,
            cards=setup.cards(),
        )
        store.finish("finished", metrics=rows)
    rows = _slots_apart(rows, turns, judgements, held_out_slots(recipe), how)
    sums = {
        key: _by_person(consistency_sums.by_conversation, [seats[key[2]].id for seats in setup.cast])
        for key, consistency_sums in of_run(turns, judgements, rows, window=how.window).items()
        if key[0] in EVALUATED and key[2] in recipe.seats()
    }
    return ConditionResult(
        condition, rows.filter(pl.col("seat").is_in(recipe.seats())), sums, store.manifest["counts"]["failed"]
    )


def _slots_apart(
    rows: pl.DataFrame, turns: pl.DataFrame, judgements: pl.DataFrame, slots: Sequence[str], how: Measure
) -> pl.DataFrame:
    """The rows with answers about facts of these slots as a measure of their own, QA_UNSEEN, and not as `qa`."""
    if not slots:
        return rows
    unseen, answers = pl.col("against").is_in(list(slots)), judgements.filter(pl.col("metric") == "qa")
    others, apart = (
        measure_run(turns, answers.filter(part), metrics=["qa"], window=how.window, confidence=how.confidence)
        for part in (~unseen, unseen)
    )
    names = {"qa": QA_UNSEEN, UNSCORED + "qa": UNSCORED + QA_UNSEEN}
    apart = apart.filter(pl.col("metric").is_in(list(names))).with_columns(pl.col("metric").replace(names))
    return pl.concat([rows.filter(~pl.col("metric").is_in(others["metric"].unique().to_list())), others, apart])


def staged(
    recipe: Recipe,
    condition: EvaluationCondition,
    engines: Mapping[str, Engine],
    judged_by: Sequence[Judge] | None = None,
) -> Setup:
    """The condition's scenario, ready to be played; held-out personas are asked in the held-out paraphrase.

    `judged_by` are judges in place of the scenario's, as in `lab.dialogue.wiring.set_up_on`.
    """
    cast = people.cast(condition.scenario)
    if condition.held_out:
        cast = [
            {seat: _asked_as(persona, recipe.held_out.paraphrase) for seat, persona in seats.items()} for seats in cast
        ]
    return set_up_on(
        condition.scenario,
        engines,
        adapters={seat: trained(seat) for seat in recipe.seats() if condition.trained},
        cast=cast,
        judged_by=judged_by,
        probed_seats=recipe.seats(),
    )


def _asked_as(persona: Persona, number: int) -> Persona:
    """The persona with paraphrase `number` of each question first; where there are fewer, the last one."""
    facts = []
    for fact in persona.facts:
        words = list(fact.slot.questions)
        words.insert(0, words.pop(min(number, len(words) - 1)))
        facts.append(replace(fact, slot=replace(fact.slot, questions=tuple(words))))
    return replace(persona, facts=tuple(facts))


def _by_person(by_conversation: Mapping[int, np.ndarray], who: Sequence[str]) -> dict[str, np.ndarray]:
    by_person: dict[str, np.ndarray] = {}
    for conversation, sums in by_conversation.items():
        by_person[who[conversation]] = by_person.get(who[conversation], 0.0) + sums
    return by_person


def evaluation_frame(recipe: Recipe, evaluated: Sequence[ConditionResult], *, confidence: float = 0.95) -> pl.DataFrame:
    """evaluation.parquet: one row for each arm, scenario, metric, judge, seat and `held_out`.

    - `value`, `low`, `high`: consistency, 0 to 1, or the tripwire's value; its interval's clusters: `people` personas.
    - `reduction`: as in the module's docstring, relative to the base model under the same conditions.
    - `rewarded`: whether the reward of training was this very measure.
    - `unscored`: share of rows that could not be scored; `failed`: number of conversations that failed.
    """
    before = {
        (result.condition.scenario.name, result.condition.held_out): result
        for result in evaluated
        if result.condition.arm == BASE
    }
    rows = []
    for result in evaluated:
        run, condition = result.rows.filter(pl.col("level") == "run"), result.condition
        missing = {
            (row["metric"], row["judge"], row["seat"]): row["value"]
            for row in run.filter(pl.col("metric").str.starts_with(UNSCORED)).iter_rows(named=True)
        }
        for row in run.filter(pl.col("metric").is_in([*EVALUATED, *TRIPWIRES])).iter_rows(named=True):
            key = (row["metric"], row["judge"], row["seat"])
            measures = {name: row[name] for name in ("metric", "judge", "seat", "value", "low", "high", "n")}
            if own := result.sums.get(key):
                counts = np.stack(list(own.values()))
                if row["metric"] in (*EVALUATED, *SHARES):
                    interval = share_of_counts(counts[:, 0], counts[:, 1], confidence=confidence)
                else:
                    interval = clustered_statistic(counts, mean, n=row["n"], confidence=confidence)
                measures |= {"low": interval.low, "high": interval.high, "people": len(own)}
            base = before[condition.scenario.name, condition.held_out]
            if result is not base and own and key in base.sums:
                gone = reduction(base.sums[key], own, confidence=confidence)
                measures |= {"reduction": gone.value, "reduction_low": gone.low, "reduction_high": gone.high}
            rows.append(
                {
                    "arm": condition.arm,
                    "scenario": condition.scenario.name,
                    "held_out": condition.held_out,
                    "rewarded": _rewarded(recipe, *key[:2]),
                    "failed": result.failed,
                    "unscored": missing.get((UNSCORED + row["metric"], *key[1:])),
                    **measures,
                }
            )
    return pl.DataFrame(rows, schema=EVALUATION, orient="row") if rows else pl.DataFrame(schema=EVALUATION)


def people_frame(evaluated: Sequence[ConditionResult]) -> pl.DataFrame:
    """evaluation_people.parquet: for each measure of consistency how many rows of each person were scored, and how many
    of these were consistent (for shares between 0 and 1, their sum).
    """
    rows: list[tuple] = []
    for result in evaluated:
        arm, place, held_out = result.condition.arm, result.condition.scenario.name, result.condition.held_out
        for key, by_person in result.sums.items():
            rows += [(arm, place, *key, held_out, who, *map(float, own)) for who, own in by_person.items()]
    return pl.DataFrame(rows, schema=EVALUATED_PEOPLE, orient="row")


def _rewarded(recipe: Recipe, metric: str, judge: str | None) -> bool:
    reward = recipe.reward
    if metric in PENALISED:
        return reward.penalty > 0
    if metric == "qa":
        return reward.qa > 0 and judge == answer_words.NAME
    return getattr(reward, metric, 0.0) > 0 and judge in (reward.judge, None)


def reduction(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], *, confidence: float) -> Interval:
    """The relative reduction of inconsistency, at most 1, over the personas that both sides have scored.

    `before` and `after` hold (consistent, scored), shape (2,), by persona id. NaN where nothing was inconsistent
    before.
    """
    both = sorted(before.keys() & after.keys())
    sums = np.array([[*before[who], *after[who]] for who in both]).reshape(len(both), 4)  # consistent, scored; twice
    left = clustered_statistic(sums, inconsistency_left, n=len(both), confidence=confidence, within=(0.0, np.inf))
    return complement(left)
