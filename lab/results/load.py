"""Runs, trainings and sweeps as Python objects, for notebooks and scripts: `from lab import load_run`.

    run = load_run("runs/20260101T120000Z-long_dialogue-1a2b")
    run.turns.group_by("seat", "node").len()      # polars
    run.conversations[0].lines[1].text            # records, with run.conversations[0].cast["user"].card
    run.plots["consistency"]                      # a matplotlib figure; %matplotlib inline shows it as a picture

Nothing is written. A run that has not finished can be loaded at any time, with what its events hold by then.
"""

from __future__ import annotations

import gc
import html
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from lab.progress.trials_table import FILE, read_trials
from lab.reports.finding_report import finding_plots
from lab.store.event_log import read_events
from lab.store.finding import finding_of
from lab.store.frames import (
    COMPARED,
    EVALUATION,
    METRICS,
    activations_frame,
    answers_frame,
    judgements_frame,
    turns_frame,
)
from lab.store.run_store import MANIFEST, SCENARIO, SWEEP, read_manifest
from lab.store.stored_frames import read_steps, read_stored
from scenarios.input_files import home_expanded
from scenarios.jobs.study import KEY
from scenarios.records import SEATS, Line, Persona
from scenarios.yaml_files import check_type, read_yaml

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lab.transcripts.transcript import Transcript


RUN, TRAINING, SCORES, COMPARISON, STUDY, SWEPT = "run", "training", "scores", "comparison", "study", "sweep"
KINDS = {
    RUN: "a run",
    STUDY: "a study",
    TRAINING: "a training",
    SWEPT: "a sweep",
    SCORES: "scores of transcripts",
    COMPARISON: "a comparison of two runs",
}


def load_run(path: str | Path) -> Run:
    """The content of a folder of a run, a study, a training, a sweep, a comparison (`lab.report A B`) or scores
    (`lab.score`).

    Raises ValueError, with the path and what was expected, where the folder is none of these or is damaged.
    """
    check_type("path", path, (str, os.PathLike), "the path of a folder")
    path = home_expanded(path)
    if (path / f"{COMPARISON}.parquet").is_file() and not (path / MANIFEST).exists():
        return Run(path, COMPARISON, {}, {COMPARISON: read_stored(path / f"{COMPARISON}.parquet", COMPARED)})
    manifest = read_manifest(path)
    if (path / SWEEP).is_file():
        return Run(
            path, SWEPT, manifest, {"trials": read_trials(path / FILE) if (path / FILE).is_file() else pl.DataFrame()}
        )
    settings = read_yaml(path / SCENARIO).data
    if "method" in settings:  # a training file, and no scenario
        steps, evaluation = path / "training.parquet", path / "evaluation.parquet"
        frames = {
            TRAINING: read_steps(steps) if steps.is_file() else pl.DataFrame(),
            "evaluation": read_stored(evaluation, EVALUATION) if evaluation.is_file() else pl.DataFrame(),
        }
        return Run(path, TRAINING, manifest, frames)
    if KEY in settings:
        return Run(
            path, STUDY, manifest, {"answers": answers_frame(manifest["run_id"], settings[KEY], read_events(path))}
        )
    return Run(path, SCORES if "scored" in settings else RUN, manifest, _of_events(path, manifest["run_id"]))


@dataclass(frozen=True, repr=False, eq=False)
class Run:
    """The content of a folder.

    - `kind`: run, study, training, sweep, scores or comparison.
    - `manifest`: manifest.json as a dict (status, counts, seconds by phase, ...); {} for a comparison.
    - `frames`: by name, those of the properties below that such a folder has; any other raises ValueError.

    The turns and judgements of a run in progress are those stored by now; its metrics have no rows until it is
    measured.
    """

    path: Path
    kind: str
    manifest: dict
    frames: dict[str, pl.DataFrame]

    @property
    def turns(self) -> pl.DataFrame:
        """One row per line: run_id, conversation and turn (from 0, over both seats), seat (user, assistant), persona
        (its id), node, text, tokens, token_ids ([] where not known), logprob (nats, summed over token_ids at
        temperature 1; null where nothing was sampled), seconds.
        """
        return self._frame("turns")

    @property
    def judgements(self) -> pl.DataFrame:
        """One row per judgement: run_id, conversation, turn, seat, metric (prompt_to_line, line_to_line, qa), judge,
        against (persona, a fact's id, or an earlier turn in digits), p_inconsistent (0 to 1), verdict (true:
        contradicts), unscored (the reason why there is no verdict).
        """
        return self._frame("judgements")

    @property
    def metrics(self) -> pl.DataFrame:
        """One row per measure: run_id, metric, judge, seat, level (turn, conversation, run), conversation, turn, value,
        low and high (bounds of its interval; NaN where there is none), n (scored items behind it).

        Units and directions are described in the module of each measure, such as metrics.consistency and metrics.drift.
        """
        return self._frame("metrics")

    @property
    def activations(self) -> pl.DataFrame:
        """One row per line of a model whose hidden states were recorded: run_id, conversation, turn, seat, persona,
        value (1: like the persona's own lines, 0: like those of others).
        """
        return self._frame("activations")

    @property
    def training(self) -> pl.DataFrame:
        """One row per step of a training: step (from 0), seat, reward and its parts (-1 to 1), kl and entropy (nats),
        length (tokens), loss, wires, seconds. It has no columns before the first step has finished.
        """
        return self._frame(TRAINING)

    @property
    def evaluation(self) -> pl.DataFrame:
        """A training's evaluation: arm, scenario, metric, judge, seat, held_out, rewarded, value, low, high, n, people,
        reduction (relative reduction of the base model's inconsistency) with its bounds, unscored, failed.

        It has no columns before an arm was evaluated.
        """
        return self._frame("evaluation")

    @property
    def trials(self) -> pl.DataFrame:
        """One row per trial of a sweep: trial (its id), the value of each axis under its key, status (finished,
        stopped, failed, running, waiting, again), reason, run (its folder, below `path`: `load_run(run.path /
        row["run"])`), and each measure as METRIC.JUDGE.SEAT with .low, .high and .n. It has no columns before the first
        trial has ended.
        """
        return self._frame("trials")

    @property
    def comparison(self) -> pl.DataFrame:
        """One row per measure of two runs A and B: metric, judge, seat, a, b, value (b - a) with low and high, n,
        detectable (the smallest difference that the runs could have shown).
        """
        return self._frame(COMPARISON)

    @property
    def answers(self) -> pl.DataFrame:
        """One row per answered item of a study: run_id, study, arm, item, cluster, method (choose, say), prompt (a
        digest), question (the last user message), options, nats (log p of each option), tokens (of each option), seed,
        text (the sampled answer).
        """
        return self._frame("answers")

    @property
    def finding(self) -> dict:
        """finding.json of a study; {} before it has concluded, and for other folders."""
        return finding_of(self.path) or {}

    @cached_property
    def conversations(self) -> tuple[Transcript, ...]:
        """All conversations: `lines` (scenarios.records.Line, in turn order), `cast` by seat
        (scenarios.records.Persona), and `ready` (turns whose words the scenario gave).

        It is () for comparisons, and for trainings, whose dialogues are stored as token ids (collected.jsonl). The cast
        of a run comes from its scenario's persona files; that of scores comes from the transcripts that were scored,
        which also had labels and names. Where those have moved or changed, a persona has its id alone, without card and
        facts. Raises ValueError where a run's persona files now cast other personas.
        """
        from lab.transcripts import reading

        if self.kind == RUN:
            return reading.seated(self.path, self.turns)[1]
        return tuple(_rescored(self.turns, self.manifest)) if self.kind == SCORES else ()

    @cached_property
    def plots(self) -> dict[str, Figure]:
        """The figures that lab.report and lab.train write, by name, as far as there is something to draw.

        They are consistency, survival, contradictions_by_node and activation of runs and scores; training and
        evaluation; differences of a comparison; and of a sweep one per axis, by its key. They belong to no window:
        `run.plots["survival"].savefig("survival.pdf")`.
        """
        from lab.reports import plots

        if self.kind == SWEPT:
            from lab.reports.sweep_curves import by_axis, read_results
            from lab.reports.sweep_report import plot_responses

            curves = read_results(self.path).curves
            drawn = {f"{axis}.png": plot_responses(axis, of_axis) for axis, of_axis in by_axis(curves).items()}
        elif self.kind == COMPARISON:
            drawn = plots.comparison_plots(self.comparison.rows(named=True), {})
        elif self.kind == TRAINING:
            drawn = plots.training_plots(self.training, self.evaluation)
        elif self.kind == STUDY:
            drawn = finding_plots(self.finding) if self.finding else {}
        else:
            drawn = plots.run_plots(self.frames)
        return {Path(name).stem: figure for name, figure in drawn.items() if figure is not None}

    def __fspath__(self) -> str:
        """The folder of the run, so that a run can be given in place of a path: `Path(run)`, `lab.judge(run)`."""
        return str(self.path)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {frame.height} × {frame.width}" for name, frame in self.frames.items())
        return f"Run({str(self.path)!r}: {self._summary()}; {shapes})"

    def _repr_html_(self) -> str:
        """The representation in notebooks; all texts from the folder are escaped."""
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{frame.height}</td>"
            f"<td>{html.escape(', '.join(frame.columns))}</td></tr>"
            for name, frame in self.frames.items()
        )
        return (
            f"<div><b>{html.escape(self._summary())}</b><br><code>{html.escape(str(self.path))}</code><table><thead><tr><th>frame</th>"
            f"<th>rows</th><th>columns</th></tr></thead><tbody>{rows}</tbody></table>{self._caution()}</div>"
        )

    def _caution(self) -> str:
        """What the intervals of a run are computed over, as HTML."""
        from lab.reports.headline import caution

        if not {"turns", "metrics"} <= self.frames.keys():
            return ""
        return f"<p>{html.escape(caution(self.turns))}</p>"

    def _summary(self) -> str:
        """Kind, name, status and counts, as text."""
        parts = [
            KINDS[self.kind],
            *(str(self.manifest[key]) for key in ("scenario", "status") if self.manifest.get(key)),
        ]
        if "turns" in self.frames:
            parts.append(f"{self.turns.height} lines in {self.turns['conversation'].n_unique()} conversations")
        return ", ".join(parts)

    def _frame(self, name: str) -> pl.DataFrame:
        if name not in self.frames:
            raise ValueError(
                f"{self.path} is {KINDS[self.kind]} and has no {name}; expected one of {', '.join(self.frames)}"
            )
        return self.frames[name]


def _of_events(path: Path, run_id: str) -> dict[str, pl.DataFrame]:
    """A run's frames by name, built from its events, and its metrics as written."""
    collecting = gc.isenabled()
    gc.disable()  # millions of objects and no cycle among them: looking for cycles takes a fifth of the time
    try:
        events = read_events(path)
        frames = {
            "turns": turns_frame(run_id, events),
            "judgements": judgements_frame(run_id, events),
            "metrics": read_stored(path / "metrics.parquet", METRICS, optional=True),
            "activations": activations_frame(run_id, events),
        }
    finally:
        if collecting:
            gc.enable()
    return frames


def _rescored(turns: pl.DataFrame, manifest: dict) -> Iterator[Transcript]:
    """The conversations of a folder of scores: read from their transcripts again if those still hold the same lines,
    else from the stored lines.
    """
    from lab.transcripts.reading import read_transcripts
    from lab.transcripts.transcript import Transcript, lines_of, numbered

    scored = manifest["scored"]
    try:
        known = {
            transcript.conversation: transcript
            for transcript in numbered([read_transcripts(path, scored.get("form")) for path in scored["transcripts"]])
        }
    except ValueError:
        known = {}
    for number, lines in lines_of(turns):
        transcript = known.get(number)
        yield (
            transcript
            if transcript and _said(transcript.lines) == _said(lines)
            else Transcript(number, None, _strangers(lines), lines)
        )


def _said(lines: Sequence[Line]) -> list[tuple]:
    return [(line.turn, line.seat, line.persona, line.text) for line in lines]


def _strangers(lines: Sequence[Line]) -> dict[str, Persona]:
    ids = {line.seat: line.persona for line in lines}
    return {seat: Persona(ids.get(seat, "unknown"), seat.capitalize(), "", ()) for seat in SEATS}
