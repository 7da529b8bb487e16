"""Two runs of one scenario compared: the differences, their intervals, and the differences that could have been
detected.

Conversations with equal number, seed and cast are pairs: the same personas meet in the same order of draws, so that
what both runs share cancels. Where seeds or casts differ, the runs are compared as two independent groups, and the text
says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import polars as pl
from pydantic import ValidationError

from lab.reports.sides import read_run
from lab.reports.validity_text import is_valid, not_valid, validities_of
from metrics.catalogue import metric_figures
from scenarios.persona_schema import UNKNOWN
from scenarios.records import SEATS
from scenarios.scenario import scenario_differences
from scenarios.schema import Measure
from scenarios.yaml_files import parse_yaml, yaml_text

if TYPE_CHECKING:
    from lab.reports.sides import Side


NEEDED = ("window", "confidence")  # of how a run was measured


@dataclass(frozen=True)
class MeasuredRun:
    """The frames and settings of a run, as one side of a comparison."""

    path: Path
    run_id: str
    seed: int | None
    scenario: str  # its YAML
    measure: Measure
    frames: Mapping[str, pl.DataFrame]
    finished: list[int]  # conversations that did not fail, by number
    cast: dict[int, tuple]  # conversation -> (seat, persona id) pairs
    scored: str | None  # digest of the transcripts, where the lines were not played but only scored
    invalid: set[tuple[str, str]]  # (metric, judge) that the run's validation found not valid in its personas


@dataclass(frozen=True)
class Comparison:
    """The comparison of runs `a` and `b`.

    `rows` have metric, judge, seat, a, b, value (b - a), low, high, n, detectable, and `valid`: whether the judge was
    valid in the personas of both runs. `lives` has one row per judge and seat on the first contradiction, with
    `horizon` in lines.
    """

    a: MeasuredRun
    b: MeasuredRun
    paired: bool
    notes: list[str]
    changed: list[str]  # what the scenarios say differently
    rows: list[dict]
    lives: list[dict]
    sides: tuple[list[int], list[int]]  # the conversations that were compared


def read_measured(path: str | Path, known_side: Side | None = None) -> MeasuredRun:
    """The folder of a run, or of scores, as one side of a comparison; `known_side` is its content where it was read
    already.

    Raises ValueError where the folder is neither, or was not measured.
    """
    path = Path(path)
    manifest, story, frames = (
        (known_side.manifest, known_side.story, known_side.frames) if known_side else read_run(path)
    )
    if frames["metrics"].is_empty():
        raise ValueError(
            f"{path} holds no metrics (it is {manifest.get('status')}); expected a run that was played and measured"
        )
    scenario = yaml_text(path / "scenario.yaml")
    settings = parse_yaml(scenario, str(path / "scenario.yaml")).data
    failed = {c for c, talk in story.talks.items() if talk.status == "failed"}
    seats = frames["turns"].select("conversation", "seat", "persona").unique().sort("conversation", "seat")
    cast = {
        c: tuple(part.select("seat", "persona").rows())
        for (c,), part in seats.partition_by("conversation", as_dict=True).items()
    }
    return MeasuredRun(
        path,
        manifest["run_id"],
        manifest.get("seed"),
        scenario,
        _measure(settings.get("scored", settings), path),
        frames,
        sorted(set(cast) - failed),
        cast,
        manifest.get("digest") if "scored" in settings else None,
        not_valid(validities_of(manifest)),
    )


def _measure(stored: object, path: Path) -> Measure:
    # of anything else a TypeError follows
    measure = cast("dict", stored.get("measure", {}) if isinstance(stored, dict) else None)
    try:
        return Measure.model_validate({key: measure[key] for key in NEEDED if key in measure})
    except (ValidationError, TypeError):
        raise ValueError(
            f"{path / 'scenario.yaml'}: measure is {str(measure)[:100]!r}; expected {', '.join(NEEDED)} as the run was "
            "measured"
        ) from None


def compare_runs(a: MeasuredRun, b: MeasuredRun) -> Comparison:
    """The differences between two runs in every measure that both have for a judge and seat.

    Raises ValueError where they have no measure in common.
    """
    paired, notes, sides = pairing(a, b)
    rows = _rows(a, b, paired, sides)
    if not rows:
        raise ValueError(
            f"{a.path} and {b.path} have no measure of the same judge and seat in common; expected runs of one scenario"
        )
    lives = _lives(a, b, paired, sides)
    return Comparison(a, b, paired, notes, scenario_differences(a.scenario, b.scenario), rows, lives, sides)


def pairing(a: MeasuredRun, b: MeasuredRun) -> tuple[bool, list[str], tuple[list[int], list[int]]]:
    """(whether the conversations can be paired, sentences that say why, the conversation numbers of both sides).

    In pairs, both sides have the same numbers.
    """
    common = sorted(set(a.finished) & set(b.finished))
    recast = [c for c in common if a.cast[c] != b.cast[c]]
    strangers = (
        [c for c in common if any(persona == UNKNOWN for _, persona in a.cast[c])] if a.scored != b.scored else []
    )
    if a.seed is None or a.seed != b.seed:
        why = f"their seeds differ ({a.seed} and {b.seed})"
    elif recast:
        why = f"their casts differ (conversation {recast[0]}{f' and {len(recast) - 1} more' if recast[1:] else ''})"
    elif strangers:
        why = f"their transcripts differ, and the speakers' personas are unknown (conversation {strangers[0]})"
    elif not common:
        why = "they have no conversation number in common"
    else:
        left = len(set(a.cast) | set(b.cast)) - len(common)
        sentence = f"{len(common)} pair{'s' * (len(common) > 1)} of conversations of equal number, seed and cast"
        return True, [f"{sentence}; {left} without a partner left out." if left else f"{sentence}."], (common, common)
    sentence = (
        f"Not paired, since {why}: {len(a.finished)} conversations of A are compared with {len(b.finished)} of B "
        "as two groups."
    )
    return False, [sentence], (a.finished, b.finished)


def _rows(a: MeasuredRun, b: MeasuredRun, paired: bool, sides: tuple[list[int], list[int]]) -> list[dict]:
    from metrics.conversation_sums import of_run
    from metrics.stats import differences

    ours, theirs = (
        of_run(*(run.frames[name] for name in ("turns", "judgements", "metrics")), window=run.measure.window)
        for run in (a, b)
    )
    order, rows = (
        {name: place for place, name in enumerate(metric_figures(name for name, *_ in set(ours) & set(theirs)))},
        [],
    )
    for key in sorted(
        set(ours) & set(theirs),
        key=lambda key: (order.get(key[0], len(order)), key[0], key[1] or "", SEATS.index(key[2])),
    ):
        left, right = (
            [c for c in side if c in sums.by_conversation]
            for side, sums in zip(sides, (ours[key], theirs[key]), strict=True)
        )
        if paired:
            left = right = [c for c in left if c in set(right)]
        if left and right:
            change = differences.paired if paired else differences.unpaired
            change_of_row = change(
                ours[key].rows(left),
                theirs[key].rows(right),
                ours[key].statistic,
                confidence=b.measure.confidence,
            )
            named = dict(zip(("metric", "judge", "seat"), key, strict=True))
            rows.append(named | asdict(change_of_row) | {"valid": _valid(a, b, *key[:2])})
    return rows


def _valid(a: MeasuredRun, b: MeasuredRun, metric: str, judge: str | None) -> bool:
    return is_valid(metric, judge or "", a.invalid | b.invalid)


def _lives(a: MeasuredRun, b: MeasuredRun, paired: bool, sides: tuple[list[int], list[int]]) -> list[dict]:
    """The first contradictions of both runs: subjects, events, medians, restricted means, their difference, and
    log-rank test.
    """
    from metrics.reductions import groups, of_metric
    from metrics.stats import differences
    from metrics.stats.kaplan_meier import kaplan_meier
    from metrics.survival import subjects

    subjects_of = []
    for frames in (a.frames, b.frames):
        of_lines = groups(of_metric(frames["judgements"], "prompt_to_line"))
        subjects_of.append({(judge, seat): subjects(part) for judge, seat, part in of_lines})
    rows = []
    for judge, seat in sorted(
        set(subjects_of[0]) & set(subjects_of[1]), key=lambda key: (key[0] or "", SEATS.index(key[1]))
    ):
        lives = [
            by_key[judge, seat].filter(pl.col("conversation").is_in(side))
            for by_key, side in zip(subjects_of, sides, strict=True)
        ]
        if paired:
            both = set(lives[0]["conversation"]) & set(lives[1]["conversation"])
            lives = [part.filter(pl.col("conversation").is_in(both)) for part in lives]
        if any(part.is_empty() for part in lives):
            continue
        arrays = [(part["lines"].to_numpy(), part["censored"].to_numpy()) for part in lives]
        horizon = differences.horizon(*arrays)
        change = differences.paired if paired else differences.unpaired
        ours, theirs = (differences.life_sums(*side, horizon) for side in arrays)
        mean = change(ours, theirs, differences.restricted_mean, confidence=b.measure.confidence)
        medians = [kaplan_meier(*side, confidence=b.measure.confidence).median() for side in arrays]
        z, p = differences.logrank(*arrays)
        rows.append(
            {
                "judge": judge,
                "seat": seat,
                "lives": [len(part) for part in lives],
                "events": [int((~part["censored"]).sum()) for part in lives],
                "medians": medians,
                "horizon": horizon,
                "mean": mean,
                "z": z,
                "p": p,
                "valid": _valid(a, b, "time_to_first_contradiction", judge),
            }
        )
    return rows
