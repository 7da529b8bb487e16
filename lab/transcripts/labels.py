"""Judgements compared with labels: reads label files, joins them, and gives figures, tables and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from rich import box
from rich.table import Table

from lab.transcripts.reading import read_text
from lab.transcripts.transcript import Transcript
from metrics import NAN
from metrics.entry import MISSING, estimate_text
from metrics.reductions import groups, of_metric
from metrics.stats.intervals import Interval, clustered_slope, plain
from metrics.stats.prediction_powered import prediction_powered_mean, prediction_powered_slope
from metrics.stats.shares import clustered_share
from metrics.validation.calibration import calibration, reliability_bins

COLUMNS = ("conversation", "turn", "contradicts")
EXPECTED = "CSV or JSON lines with conversation, turn, contradicts and perhaps seat"
WORDS = {
    "true": True,
    "1": True,
    "yes": True,
    "false": False,
    "0": False,
    "no": False,
    "": None,
    "null": None,
    "none": None,
}
NAMES = {
    "auroc": "AUROC",
    "precision": "precision",
    "recall": "recall",
    "kappa": "Cohen's κ",
    "ece": "calibration error",
}
NOTE = (
    "Against labels: `value [low, high]`, intervals between conversations. The calibration error has 10 bins of equal "
    "mass; that of a sample is too high rather than too low."
)
POWERED = {"consistency": ("prompt-to-line consistency", "{:z.2f}"), "drift": ("global drift a turn", "{:+z.4f}")}
POWERED_NOTE = (
    "Both: what the labels say, with the judge's weight chosen so that the variance is least. It holds however wrong "
    "the judge is, and if it misses more late in a dialogue than early, as long as the labelled lines were drawn at "
    "random."
)


@dataclass(frozen=True)
class Calibrated:
    """A judge compared with the labels of a metric; `statistics` are those of `metrics.validation.calibration`."""

    statistics: Mapping[str, Interval]
    bins: Sequence[tuple[float, Interval]]
    n: int  # labelled and scored
    unscored: int  # labelled, but the judge gave no verdict
    unlabelled: int  # judged, but the label is missing or undecided
    unjudged: int  # labelled, and no judge was asked (pairs that were not retrieved)
    contradicting: int  # of n, say the labels
    conversations: int  # behind n

    def plain(self) -> dict:
        """The figures as a flat dict for JSON; `low` and `high` are those of the AUROC."""
        bounds = {}
        for name, interval in self.statistics.items():
            prefix = "" if name == "auroc" else f"{name}_"
            bounds |= {name: interval.value, f"{prefix}low": interval.low, f"{prefix}high": interval.high}
        counts = {
            key: getattr(self, key)
            for key in ("n", "unscored", "unlabelled", "unjudged", "contradicting", "conversations")
        }
        return bounds | counts


@dataclass(frozen=True)
class Powered:
    """A figure of a seat: by the judge alone, by the labels alone, and by both (prediction-powered)."""

    judge: Interval  # narrow, and as wrong as the judge
    labels: Interval
    both: Interval

    @property
    def gain(self) -> float:
        """1 - width of the interval by both / width by labels, at most 1; below 0 the judge widens it. NaN without an
        interval.
        """
        width = self.labels.high - self.labels.low
        return 1 - (self.both.high - self.both.low) / width if width > 0 else NAN

    def plain(self) -> dict:
        """The intervals and the gain as plain data for JSON."""
        return {name: plain(getattr(self, name)) for name in ("judge", "labels", "both")} | {"gain": self.gain}


# -- label files


def attach(transcripts: Sequence[Transcript], path: Path) -> list[Transcript]:
    """The transcripts with the file's labels in place of their own.

    `conversation` is a number as in turns.parquet, or a name in the transcripts; an empty `contradicts` means that the
    person could not decide. Raises ValueError with file, line and what was expected.
    """
    names = [transcript.name for transcript in transcripts if transcript.name is not None]
    places = {str(transcript.conversation): place for place, transcript in enumerate(transcripts)}
    named = {
        transcript.name: place
        for place, transcript in enumerate(transcripts)
        if transcript.name is not None and names.count(transcript.name) == 1
    }
    if clash := next((name for name, place in named.items() if places.get(name, place) != place), None):
        raise ValueError(
            f"{path}: {clash!r} is the number of one conversation and the name of another; expected names that are no "
            "such numbers"
        )
    places |= named
    by_transcript: list[dict] = [{} for _ in transcripts]
    for where, row in _rows(path):
        problem = _problem(row, transcripts, places)
        if not problem:
            place, key = places[str(row["conversation"]).strip()], (int(row["turn"]), "persona")
            if key in by_transcript[place]:
                problem = "labels a line that an earlier one labels; expected each line once"
            by_transcript[place][key] = WORDS[_word(row["contradicts"])]
        if problem:
            raise ValueError(f"{path}, {where}: {problem}")
    if not any(by_transcript):
        raise ValueError(f"{path}, line 1: there is no label; expected {EXPECTED}")
    return [
        replace(transcript, labels=labels, strays=0)
        for transcript, labels in zip(transcripts, by_transcript, strict=True)
    ]


def _rows(path: Path) -> Iterator[tuple[str, dict]]:
    text = read_text(path, EXPECTED)
    if text.lstrip().startswith("{"):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                yield f"line {number}", row if isinstance(row, dict) else {}
        return
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            # a row that is too short has no label
            yield (
                f"line {reader.line_num}",
                {} if None in row.values() else row,
            )
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; expected {EXPECTED}") from None


def _problem(row: dict, transcripts: Sequence[Transcript], places: Mapping[str, int]) -> str | None:
    """What is wrong with a row of a label file, as a phrase; None where it is valid."""
    missing = [column for column in COLUMNS if column not in row]
    if missing:
        return f"has no {', no '.join(missing)}; expected {EXPECTED}"
    if _word(row["contradicts"]) not in WORDS:
        return (
            f"contradicts is {row['contradicts']!r}; expected true, false, or nothing where the person could not tell"
        )
    place = places.get(str(row["conversation"]).strip())
    if place is None:
        return (
            f"conversation is {row['conversation']!r}, which is none of the transcripts'; expected a number from 0 "
            "or a name"
        )
    turns = {str(line.turn): line for line in transcripts[place].lines}
    line = turns.get(str(row["turn"]).strip())
    if line is None:
        return f"turn is {row['turn']!r}; expected one of the {len(turns)} lines of the conversation, counted from 0"
    if row.get("seat") not in (None, "", line.seat):
        return f"seat is {row['seat']!r}, but turn {line.turn} is the {line.seat}'s; expected that, or none"
    return None


def _word(value: object) -> str:
    return str(value).strip().casefold()


# -- figures


def calibrated(
    judgements: pl.DataFrame,
    transcripts: Sequence[Transcript],
    metrics: Sequence[str],
    confidence: float,
) -> dict[str, dict[str, Calibrated]]:
    """The comparison of each judge with the labels, by judge and metric."""
    labels = label_frame(transcripts)
    by_judge: dict[str, dict[str, Calibrated]] = {}
    for (judge,), rows in sorted(judgements.partition_by("judge", as_dict=True).items()):
        for metric in metrics:
            by_judge.setdefault(judge, {})[metric] = _calibrated(
                of_metric(rows, metric), _labels_of(labels, metric), confidence
            )
    return by_judge


def label_frame(transcripts: Sequence[Transcript]) -> pl.DataFrame:
    """The labels with columns conversation, turn, against and label (true: contradicts; null: not decided)."""
    rows = [
        (transcript.conversation, turn, against, label)
        for transcript in transcripts
        for (turn, against), label in transcript.labels.items()
    ]
    schema = {"conversation": pl.Int64, "turn": pl.Int64, "against": pl.String, "label": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _labels_of(labels: pl.DataFrame, metric: str) -> pl.DataFrame:
    persona = pl.col("against") == "persona"
    return labels.filter(persona if metric == "prompt_to_line" else ~persona)


def _calibrated(rows: pl.DataFrame, labels: pl.DataFrame, confidence: float) -> Calibrated:
    joined = rows.join(labels, on=["conversation", "turn", "against"], how="left")
    known = joined.filter(pl.col("label").is_not_null())
    scored = known.filter(pl.col("verdict").is_not_null())
    p, verdict, label, conversation = (
        scored[name].to_numpy() for name in ("p_inconsistent", "verdict", "label", "conversation")
    )
    return Calibrated(
        calibration(p, verdict, label, conversation, confidence=confidence),
        reliability_bins(p, label, conversation, confidence=confidence),
        n=scored.height,
        unscored=known.height - scored.height,
        unlabelled=joined.height - known.height,
        unjudged=int(labels["label"].is_not_null().sum()) - known.height,
        contradicting=int(scored["label"].sum()),
        conversations=scored["conversation"].n_unique(),
    )


def powered(
    judgements: pl.DataFrame, transcripts: Sequence[Transcript], confidence: float
) -> dict[str, dict[str, dict[str, Powered]]]:
    """Prompt-to-line "consistency", 0 to 1, and "drift", the slope of inconsistency per turn within conversations, by
    judge and seat. Lines that the judge could not score are in none of the estimates.
    """
    labels, by_judge = label_frame(transcripts), {judge: {} for judge in sorted(judgements["judge"].unique())}
    for judge, seat, rows in groups(of_metric(judgements, "prompt_to_line")):
        if judge is None:
            continue
        rows = rows.join(labels, on=["conversation", "turn", "against"], how="left").filter(
            pl.col("verdict").is_not_null()
        )
        judged, clusters = 1 - rows["inconsistent"].to_numpy(), rows["conversation"].to_numpy()
        truth = 1 - rows["label"].cast(pl.Float64).fill_null(NAN).to_numpy()
        known = ~rows["label"].is_null().to_numpy()
        labelled = clustered_share(truth[known], clusters[known], confidence=confidence)
        both = prediction_powered_mean(judged, truth, clusters, confidence=confidence)
        if both.low == both.high:  # nothing changes without any cluster: what the labels alone allow
            both = replace(both, low=labelled.low, high=labelled.high)
        turns, wrong, labels_wrong = rows["turn"].to_numpy(), 1 - judged, 1 - truth
        by_judge[judge][seat] = {
            "consistency": Powered(clustered_share(judged, clusters, confidence=confidence), labelled, both),
            "drift": Powered(
                clustered_slope(turns, wrong, clusters, centred=clusters, confidence=confidence),
                clustered_slope(
                    turns[known], labels_wrong[known], clusters[known], centred=clusters[known], confidence=confidence
                ),
                prediction_powered_slope(turns, wrong, labels_wrong, clusters, confidence=confidence),
            ),
        }
    return by_judge


# -- tables


def calibration_tables(calibrated_judges: Mapping[str, Mapping[str, Calibrated]]) -> Iterator[Table]:
    """One table per metric that has labels, with one column per judge."""
    for metric in next(iter(calibrated_judges.values()), {}):
        if not any(
            calibration[metric].n + calibration[metric].unscored + calibration[metric].unjudged
            for calibration in calibrated_judges.values()
        ):
            continue
        table = Table(
            title=f"{metric.replace('_', '-')}, against labels", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
        )
        table.add_column("")
        for judge in calibrated_judges:
            table.add_column(judge)
        by_judge = [by_metric[metric] for by_metric in calibrated_judges.values()]
        for name, title in NAMES.items():
            table.add_row(title, *(cell(calibration.statistics[name]) for calibration in by_judge))
        for name in ("n", "contradicting", "conversations", "unscored", "unlabelled", "unjudged"):
            table.add_row(name, *(str(getattr(calibration, name)) for calibration in by_judge))
        yield table


def powered_table(name: str, powered_judges: Mapping[str, Mapping[str, Mapping[str, Powered]]]) -> Table:
    """One row per judge and seat: the figure of POWERED by judge, by labels and by both, and the gain."""
    title, number = POWERED[name]
    table = Table(title=f"{title}, with labels", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("judge, seat", "judge alone", "labels alone", "both (prediction-powered)", "narrower by"):
        table.add_column(column)
    for judge, by_seat in powered_judges.items():
        for seat, estimates in by_seat.items():
            estimate = estimates[name]
            gain = MISSING if estimate.gain != estimate.gain else f"{estimate.gain:+z.0%}"
            table.add_row(
                f"{judge}, {seat}",
                *(f"{cell(part, number)} n={part.n}" for part in (estimate.judge, estimate.labels, estimate.both)),
                gain,
            )
    return table


def cell(interval: Interval, number: str = "{:z.2f}") -> str:
    """`value [low, high]` in that format, see `metrics.entry.estimate_text`."""
    return estimate_text(interval.value, interval.low, interval.high, number.format)
