"""Do judges and measures detect planted drift? Faults of known amounts are put into dialogues, and detections are
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import inf, isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING

from lab.dialogue.judges import CONTRADICTING, JUDGES, judge_entry
from scenarios import plugins

if TYPE_CHECKING:
    import polars as pl

    from metrics.judges import Judge, Pair
    from metrics.stats.intervals import Interval
    from metrics.validation.planted import PlantedDialogue
    from scenarios.records import Judgement, Persona


PERSONAS = Path(__file__).parents[2] / "scenarios" / "personas" / "townsfolk.yaml"
TELLING = frozenset({*CONTRADICTING, "implied_fact"})  # of a persona's facts
ASKED = ("ledger", "likelihood", "nli", "combined")  # where none is named: those that need no server
MOVES = {  # +1: more of the drift that a judge sees makes it larger
    "mean_p": 1,
    "prompt_to_line": -1,
    "line_to_line": -1,
    "contradicting_lines": 1,
    "contradicted_facts": 1,
    "local_drift": 1,
    "local_drift_slope": 1,
    "global_drift_slope": 1,
    "global_drift_thirds": 1,
    "time_to_first_contradiction": -1,
    "half_life": -1,
}
WIRES = {
    "role_flip": {"helper_voice": 1, "relevance": -1},
    "style_decay": {"distinct_2": -1, "repetition": 1, "evasion": 1, "length": -1, "relevance": -1},
    "parroting": {"parroting": 1, "wrong_person": 1, "repetition": 1},
}
FACTS = "contradicted_fact"
# least and most on contradicted facts; lag in turns
BARS = {"precision": (0.9, inf), "recall": (0.8, inf), "lag": (-inf, 1.0)}
MUST_PASS = frozenset({"ledger", "nli"})  # one of them, of those that were asked
SLACK = 0.1  # of the whole change: how far a step may go back and the response still count as monotone
NEAR = 5  # own earlier lines a line is held against
AS_IT_SHOULD, UNEVEN, STILL, WRONG = "moves as it should", "right sign, uneven", "does not move", "WRONG"
BLIND, UNMEASURED = "does not see this", "not measured"


def judges_to_test() -> list[str]:
    """The names of the judges that score lines: the lab's, then those of installed packages."""
    return [*(name for name, entry in JUDGES.items() if entry.scores_lines()), *plugins.added(plugins.JUDGES)]


@dataclass(frozen=True)
class Size:
    conversations: int
    turns: int


SIZES = {"smoke": Size(6, 24), "default": Size(24, 40)}
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Detection:
    """A judge on one kind of drift: its p and verdicts compared with what was planted at the largest dose."""

    judge: str
    kind: str
    claims: bool
    auroc: Interval
    precision: Interval
    recall: Interval
    lag: (
        Interval  # turns from the first planted line to the first verdict, over the dialogues of all doses that got one
    )
    missed: int  # dialogues that got none
    by_wording: dict[str, Interval]  # recall of facts

    @property
    def failed(self) -> bool:
        """Whether the judge should detect this kind, but does not rank planted lines above others (AUROC at most
        0.5).
        """
        return self.claims and not self.auroc.value > 0.5

    def below(self) -> list[str]:
        """The names of the bars that the judge does not meet."""
        return [name for name, (least, most) in BARS.items() if not least <= getattr(self, name).value <= most]


@dataclass(frozen=True)
class Response:
    """The values of one measure over the run, by dose, for one kind of drift."""

    judge: str  # "" for a tripwire
    kind: str
    metric: str
    values: tuple[float, ...]
    verdict: str

    @property
    def failed(self) -> bool:
        """Whether the measure moves against its direction, or does not move although no judge's threshold explains
        that.
        """
        return self.verdict == WRONG or (self.verdict == STILL and (not self.judge or self.judge in MUST_PASS))


@dataclass(frozen=True)
class Retrieval:
    """The shares, 0 to 1, of line-to-line pairs and of planted contradictions that retrieval keeps."""

    kind: str
    pairs: Interval  # share of all
    recall: Interval


@dataclass(frozen=True)
class Result:
    detections: list[Detection]
    responses: list[Response]
    false_alarms: dict[str, Interval]  # by judge, on dialogues with nothing planted
    retrievals: list[Retrieval]

    def below(self) -> dict[str, list[str]]:
        """The bars that each judge does not meet on contradicted facts, by judge."""
        return {row.judge: row.below() for row in self.detections if row.kind == FACTS}

    @property
    def barred(self) -> bool:
        """Whether judges of MUST_PASS were tested and none of them meets all bars."""
        asked = [missed for judge, missed in self.below().items() if judge in MUST_PASS]
        return bool(asked) and all(asked)

    @property
    def failed(self) -> bool:
        return self.barred or any(row.failed for row in (*self.detections, *self.responses))


def selftest(
    judges: Sequence[Judge], personas: Sequence[Persona], size: Size, seed: int, *, embed: Callable | None = None
) -> Result:
    """The results of every judge and measure on every kind of drift.

    Without `embed`, relevance and retrieval are left out. Raises ValueError with fewer than three personas with facts.
    """
    from metrics.validation.planted import DOSES, KINDS, clean_dialogues, plant

    base = clean_dialogues(personas, size.conversations, size.turns, seed)
    planted = {
        kind: [[plant(dialogue, kind, dose, personas, seed) for dialogue in base] for dose in DOSES] for kind in KINDS
    }
    detections, false_alarms = [], {}
    responses = [row for kind, doses in planted.items() for row in _wires(kind, doses, embed)]
    for judge in judges:
        judged = _judged(judge, base, planted)
        false_alarms[judge.name] = _false_alarms(judged(base))
        for kind, doses in planted.items():
            detections.append(_detection(judge.name, kind, doses, judged))
            responses += _measures(judge.name, kind, doses, judged)
    retrievals = [_retrieval(kind, planted[kind][-1], embed) for kind in sorted(TELLING) if embed]
    return Result(detections, responses, false_alarms, retrievals)


# -- judging


def _judged(
    judge: Judge, base: list[PlantedDialogue], planted: Mapping[str, list[list[PlantedDialogue]]]
) -> Callable[[list[PlantedDialogue]], list[Judgement]]:
    """A function from dialogues to their judgements; all pairs are judged in one call, shared pairs once."""
    from metrics.judges import rows_by_pair
    from metrics.validation.planted import planted_pairs

    window = None if judge.name == "ledger" else NEAR
    every = [base, *(dialogues for doses in planted.values() for dialogues in doses)]
    asked = {
        _key(pair): pair for dialogues in every for dialogue in dialogues for pair in planted_pairs(dialogue, window)
    }
    pairs = list(asked.values())
    answered = dict(zip(asked, rows_by_pair(pairs, judge.judge(pairs)), strict=True))
    return lambda dialogues: [
        row for dialogue in dialogues for pair in planted_pairs(dialogue, window) for row in answered[_key(pair)]
    ]


def _key(pair: Pair) -> tuple:
    return (pair.conversation, pair.turn, pair.metric, pair.against, pair.line, pair.other, pair.heard)


def _false_alarms(rows: list[Judgement]) -> Interval:
    """Share of lines without faults, 0 to 1, that the judge calls inconsistent with the persona."""
    return _accused([row for row in rows if row.against == "persona" and row.verdict is not None])


def _accused(rows: list[Judgement]) -> Interval:
    """Share of the rows, 0 to 1, with a contradicting verdict; an unscored row has none."""
    from metrics.stats.shares import clustered_share

    verdicts, conversations = [bool(row.verdict) for row in rows], [row.conversation for row in rows]
    return clustered_share(verdicts, conversations, confidence=CONFIDENCE)


def _detection(judge: str, kind: str, doses: list[list[PlantedDialogue]], judged: Callable) -> Detection:
    from metrics.stats.intervals import clustered_mean
    from metrics.validation.calibration import calibration
    from metrics.validation.planted import WORDINGS

    planted = {dialogue.number: dialogue for dialogue in doses[-1]}
    whole = [row for row in judged(doses[-1]) if row.against == "persona"]
    rows = [row for row in whole if row.verdict is not None]
    labels = [row.turn in planted[row.conversation].planted for row in rows]
    quality = calibration(
        [row.p_inconsistent for row in rows],
        [row.verdict for row in rows],
        labels,
        [row.conversation for row in rows],
        confidence=CONFIDENCE,
    )
    lags = [
        (dialogue.number, _lag(dialogue, judged([dialogue])))
        for dialogues in doses
        for dialogue in dialogues
        if dialogue.planted
    ]
    caught = [(number, lag) for number, lag in lags if lag is not None]
    lag = clustered_mean([lag for _, lag in caught], [number for number, _ in caught], confidence=CONFIDENCE)
    by_wording = (
        _by_wording([row for row, label in zip(rows, labels, strict=True) if label], planted)
        if kind in WORDINGS
        else {}
    )
    precision = replace(quality["precision"], n=sum(row.verdict for row in rows))
    # An unscored planted line counts as missed.
    aimed = [row for row in whole if row.turn in planted[row.conversation].planted]
    recall = _accused(aimed)
    return Detection(
        judge,
        kind,
        kind in judge_entry(judge).finds,
        quality["auroc"],
        precision,
        recall,
        lag,
        len(lags) - len(caught),
        by_wording,
    )


def _by_wording(rows: list[Judgement], planted: Mapping[int, PlantedDialogue]) -> dict[str, Interval]:
    """Share of planted facts with a contradicting verdict, by wording."""
    by_wording: dict[str, list[Judgement]] = {}
    for row in rows:
        by_wording.setdefault(planted[row.conversation].stated[row.turn][0].wording, []).append(row)
    return {wording: _accused(group) for wording, group in sorted(by_wording.items())}


def _lag(dialogue: PlantedDialogue, rows: list[Judgement]) -> float | None:
    onset = min(dialogue.planted)
    caught = [
        row.turn - onset for row in rows if row.against == "persona" and row.verdict and row.turn in dialogue.planted
    ]
    return float(min(caught)) if caught else None


def _retrieval(kind: str, dialogues: list[PlantedDialogue], embed: Callable) -> Retrieval:
    """The shares of pairs and of planted contradictions that retrieval keeps; no judge is involved."""
    from metrics.judges.pair_retrieval import candidates
    from metrics.stats.shares import clustered_share, share_of_counts
    from metrics.validation.planted import SEAT, planted_contradictions

    kept, known, sizes = [], [], []
    for dialogue in dialogues:
        turns = [line.turn for line in dialogue.own()]
        chosen = {
            (turns[later], turns[earlier])
            for later, earlier in candidates([line.text for line in dialogue.own()], embed, dialogue.cast[SEAT])
        }
        labelled = sorted(planted_contradictions(dialogue))
        kept += [pair in chosen for pair in labelled]
        known += [dialogue.number] * len(labelled)
        sizes.append((len(chosen), len(turns) * (len(turns) - 1) / 2))
    pairs = share_of_counts(*zip(*sizes, strict=True), confidence=CONFIDENCE)
    return Retrieval(kind, pairs, clustered_share(kept, known, confidence=CONFIDENCE))


# -- responses by dose


def _measures(judge: str, kind: str, doses: list[list[PlantedDialogue]], judged: Callable) -> list[Response]:
    """The response of each measure of judgements to the dose, over the run of the drifting seat."""
    from lab.store.frames import judgements_frame
    from metrics.measure import measure_run
    from metrics.validation.planted import planted_turns

    values = []
    for dialogues in doses:
        told_of = {
            "event": "judged",
            "conversation": 0,
            "turn": 0,
            "by": "judges",
            "rows": [asdict(row) for row in judged(dialogues)],
        }
        rows = judgements_frame("selftest", [told_of])
        measured = measure_run(
            planted_turns(dialogues),
            rows,
            metrics=("prompt_to_line", "line_to_line", "drift", "contradictions"),
            window=NEAR,
            confidence=CONFIDENCE,
        )
        values.append(_over_run(measured) | {"mean_p": _mean_p(rows)})
    claimed = MOVES if kind in judge_entry(judge).finds else {}
    return [
        _response(judge, kind, metric, [by_dose.get(metric, nan) for by_dose in values], claimed.get(metric))
        for metric in MOVES
        if metric in values[0]
    ]


def _wires(kind: str, doses: list[list[PlantedDialogue]], embed: Callable | None) -> list[Response]:
    from metrics.tripwires import tripwires
    from metrics.validation.planted import planted_turns

    values = []
    for dialogues in doses:
        cards = {
            (dialogue.number, seat): persona.card for dialogue in dialogues for seat, persona in dialogue.cast.items()
        }
        values.append(_over_run(tripwires(planted_turns(dialogues), cards, embed=embed, confidence=CONFIDENCE)))
    return [
        _response("", kind, metric, [by_dose[metric] for by_dose in values], WIRES.get(kind, {}).get(metric))
        for metric in values[0]
    ]


def _over_run(metrics: pl.DataFrame) -> dict[str, float]:
    from metrics.validation.planted import SEAT

    return {
        row["metric"]: row["value"]
        for row in metrics.iter_rows(named=True)
        if row["level"] == "run" and row["seat"] == SEAT
    }


def _mean_p(rows: pl.DataFrame) -> float:
    import polars as pl

    mean = rows.filter(pl.col("metric") == "prompt_to_line", pl.col("against") == "persona")["p_inconsistent"].mean()
    return mean if isinstance(mean, float) else nan


def _response(judge: str, kind: str, metric: str, values: Sequence[float], direction: int | None) -> Response:
    if metric == "time_to_first_contradiction":
        values = [inf if isnan(value) else value for value in values]  # not reached
    return Response(judge, kind, metric, tuple(values), response_verdict(values, direction))


def response_verdict(values: Sequence[float], direction: int | None) -> str:
    """The verdict on a measure's values by rising dose; `direction` is 1 (should rise), -1 (should fall) or None
    (unknown).
    """
    if direction is None:
        return BLIND if not all(isnan(value) for value in values) else UNMEASURED
    if all(isnan(value) for value in values):
        return UNMEASURED
    finite = [value for value in values if value not in (inf, -inf)]
    limit = 2 * max(map(abs, finite), default=1.0) + 1.0  # stands for infinity
    signed = [direction * (limit if value == inf else value) for value in values]
    change = signed[-1] - signed[0]
    if change == 0:
        return STILL
    if not change > 0:
        return WRONG
    steps = [later - earlier for earlier, later in pairwise(signed)]
    return AS_IT_SHOULD if min(steps) >= -SLACK * change else UNEVEN
