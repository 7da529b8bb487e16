"""From events to frames: pure functions of events.jsonl, so that a resumed run's frames equal those of an uninterrupted
one.

A turn may be stored twice (a run killed between a line and its judgement judges it again): the last event counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from lab.store.spend import SpendTotals
from metrics import METRICS_SCHEMA

TURNS = {
    "run_id": pl.String,
    "conversation": pl.Int64,
    "persona": pl.String,
    "turn": pl.Int64,
    "seat": pl.String,
    "node": pl.String,
    "text": pl.String,
    "tokens": pl.Int64,
    "token_ids": pl.List(pl.Int64),
    "logprob": pl.Float64,
    "seconds": pl.Float64,
}
CUT = {"cut": pl.String}  # of the turns that are measured, and not of turns.parquet: see scenarios.records.Line
JUDGEMENTS = {
    "run_id": pl.String,
    "conversation": pl.Int64,
    "turn": pl.Int64,
    "seat": pl.String,
    "metric": pl.String,
    "judge": pl.String,
    "against": pl.String,
    "p_inconsistent": pl.Float64,
    "verdict": pl.Boolean,
    "unscored": pl.String,
}
METRICS = {"run_id": pl.String, **METRICS_SCHEMA}
ACTIVATIONS = {
    "run_id": pl.String,
    "conversation": pl.Int64,
    "turn": pl.Int64,
    "seat": pl.String,
    "persona": pl.String,
    "value": pl.Float64,
}
_EVALUATED = {  # what was measured, and where
    "arm": pl.String,
    "scenario": pl.String,
    "metric": pl.String,
    "judge": pl.String,
    "seat": pl.String,
    "held_out": pl.Boolean,
}
EVALUATION = {
    **_EVALUATED,
    "rewarded": pl.Boolean,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "people": pl.Int64,
    "reduction": pl.Float64,
    "reduction_low": pl.Float64,
    "reduction_high": pl.Float64,
    "unscored": pl.Float64,
    "failed": pl.Int64,
}
EVALUATED_PEOPLE = {  # of an evaluation, by person
    **_EVALUATED,
    "person": pl.String,
    "consistent": pl.Float64,
    "scored": pl.Float64,
}
COMPARED = {  # of a comparison of two runs
    "metric": pl.String,
    "judge": pl.String,
    "seat": pl.String,
    "a": pl.Float64,
    "b": pl.Float64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "detectable": pl.Float64,
}
COUNTERS = ("tokens_new", "tokens_computed", "generated")
ANSWERS = {
    "run_id": pl.String,
    "study": pl.String,
    "arm": pl.String,
    "item": pl.String,
    "cluster": pl.String,
    "method": pl.String,
    "prompt": pl.String,
    "question": pl.String,
    "options": pl.List(pl.String),
    "nats": pl.List(pl.Float64),
    "tokens": pl.List(pl.Int64),
    "seed": pl.Int64,
    "text": pl.String,
}


def fold(kept: dict[tuple, dict], event: dict) -> None:
    """Puts a `line` or `judged` event into `kept`, in place of an earlier one of the same turn; other events do
    nothing.
    """
    if event["event"] == "line":
        kept[event["conversation"], event["turn"], ""] = event
    elif event["event"] == "judged":
        kept[event["conversation"], event["turn"], event["by"]] = event


def latest_events(events: Iterable[dict], kind: str) -> list[dict]:
    """The last `line` or `judged` event (`kind`) of each turn, sorted by conversation and turn."""
    kept: dict[tuple, dict] = {}
    for event in events:
        fold(kept, event)
    return [kept[key] for key in sorted(kept) if kept[key]["event"] == kind]


def ends(events: Iterable[dict]) -> dict[int, dict]:
    """The last `conversation` event of each conversation, which says how it ended."""
    return {event["conversation"]: event for event in events if event["event"] == "conversation"}


def reached(events: Iterable[dict], turn: int) -> set[int]:
    """The numbers of the conversations that have every line before that turn."""
    said = {(event["conversation"], event["turn"]) for event in events if event["event"] == "line"}
    return {c for c, _ in said if all((c, earlier) in said for earlier in range(turn))}


def answer_events(events: Iterable[dict]) -> list[dict]:
    """The `answer` events, in their order."""
    return [event for event in events if event["event"] == "answer"]


def frames_of(run_id: str, events: Collection[dict]) -> dict[str, pl.DataFrame]:
    """The frames `turns` (with CUT), `judgements` and `activations` of the events."""
    return {
        "turns": turns_frame(run_id, events, cut=True),
        "judgements": judgements_frame(run_id, events),
        "activations": activations_frame(run_id, events),
    }


def turns_frame(run_id: str, events: Iterable[dict], *, cut: bool = False) -> pl.DataFrame:
    """One row per line, sorted by conversation and turn, with the columns of TURNS, and of CUT with `cut`."""
    return _frame(run_id, latest_events(events, "line"), TURNS | CUT if cut else TURNS)


def activations_frame(run_id: str, events: Iterable[dict]) -> pl.DataFrame:
    """One row per line with a recorded projection, in `value` (see scenarios.records.Line), with the columns of
    ACTIVATIONS.
    """
    rows = [
        event | {"value": event["activation"]}
        for event in latest_events(events, "line")
        if event.get("activation") is not None
    ]
    return _frame(run_id, rows, ACTIVATIONS)


def judgements_frame(run_id: str, events: Iterable[dict]) -> pl.DataFrame:
    """One row per judgement, sorted by conversation, turn and judge, with the columns of JUDGEMENTS."""
    return _frame(run_id, [row for event in latest_events(events, "judged") for row in event["rows"]], JUDGEMENTS)


def conform(name: str, frame: pl.DataFrame, schema: dict, run_id: str) -> pl.DataFrame:
    """The frame with the schema's columns, in its order and with its types; `run_id` is added where it is missing.

    Raises ValueError for missing and unknown columns.
    """
    if "run_id" not in frame.columns:
        frame = frame.with_columns(pl.lit(run_id).alias("run_id"))
    if set(frame.columns) != set(schema):
        missing, extra = set(schema) - set(frame.columns), set(frame.columns) - set(schema)
        raise ValueError(f"{name} frame: missing columns {sorted(missing)}, unknown columns {sorted(extra)}")
    return frame.select(pl.col(column).cast(dtype) for column, dtype in schema.items())


@dataclass
class Totals:
    """The counts, tokens and seconds by phase of a run, folded event by event; time between two executions is left
    out.
    """

    lines: int = 0
    conversations: dict[int, str] = field(default_factory=dict)  # conversation -> finished or failed
    seconds: dict[str, float] = field(default_factory=dict)
    header: dict = field(default_factory=dict)  # of the last `started`
    recovered: int = 0
    notices: dict[str, None] = field(default_factory=dict)  # the sentences of `notice`, each once
    validation: dict = field(default_factory=dict)  # rows and omitted of `validated`
    spend: SpendTotals = field(default_factory=SpendTotals)
    _said: dict[int, set[int]] = field(default_factory=dict)  # of each conversation that is not settled: turns
    # and by (turn, by) rows, rows unscored
    _judged: dict[int, dict[tuple, tuple[int, int]]] = field(default_factory=dict)
    _settled: tuple[int, int] = (0, 0)  # rows, rows unscored of those that are
    _used: dict[str, int] = field(default_factory=dict)
    _used_before: dict[str, int] = field(default_factory=dict)
    _phase: str | None = None
    _time: datetime | None = None
    _stamp: str = ""  # the same, as it stands in the event

    def add(self, event: dict) -> None:
        """Adds an event; a repeated turn counts once."""
        kind = event["event"]
        self._clock(kind, event)
        if kind == "line":
            said = self._said.setdefault(event["conversation"], set())
            self.lines += event["turn"] not in said
            said.add(event["turn"])
        elif kind == "judged":
            rows = event["rows"]
            unscored = sum(row.get("unscored") is not None for row in rows)
            self._judged.setdefault(event["conversation"], {})[event["turn"], event["by"]] = (len(rows), unscored)
        elif kind == "conversation":
            self.conversations[event["conversation"]] = event["status"]
        elif kind == "usage":
            self._use({name: event.get(name) or 0 for name in COUNTERS})
        elif kind == "started":
            self.header = event
            self.spend.begin()
        elif kind == "spend":
            self.spend.add(event)
        elif kind == "validated":
            self.validation = {"validation": {name: event[name] for name in ("rows", "omitted")}}
        elif kind == "recovered":
            self.recovered += 1
        elif kind == "notice":
            self.notices[event["detail"]] = None

    def is_whole(self, conversation: int) -> bool:
        """Whether the conversation finished with all its lines, so that no event of it will follow."""
        return self.conversations.get(conversation) == "finished" and len(
            self._said.get(conversation, ())
        ) == self.header.get("turns")

    def settle(self, conversation: int) -> None:
        """Reduces a finished conversation to its counts, to save memory."""
        self._said.pop(conversation)
        numbers = self._judged.pop(conversation, {}).values()
        rows, unscored = (sum(counts) for counts in zip(self._settled, *numbers, strict=True))
        self._settled = rows, unscored

    def tokens(self) -> dict[str, int]:
        """Tokens by counter (COUNTERS), summed over all executions of the run, each of which counts from 0."""
        return {name: self._used_before.get(name, 0) + self._used.get(name, 0) for name in COUNTERS}

    def as_fields(self) -> dict:
        """The fields of the manifest that follow from events: counts, tokens, seconds by phase, models, the validation
        of the judges, notices, and what servers took.
        """
        statuses = list(self.conversations.values())
        judged = [self._settled, *(numbers for by_turn in self._judged.values() for numbers in by_turn.values())]
        counts = {
            "conversations": self.header.get("conversations"),
            "finished": statuses.count("finished"),
            "failed": statuses.count("failed"),
            "lines": self.lines,
            "recovered": self.recovered,
            "judgements": sum(rows for rows, _ in judged),
            "unscored": sum(unscored for _, unscored in judged),
        }
        models = {key: self.header[key] for key in ("models", "device", "dtype") if self.header.get(key)}
        seconds = {phase: round(spent, 3) for phase, spent in self.seconds.items()}
        notices = {"notices": list(self.notices)} if self.notices else {}
        spend = {"spend": rows} if (rows := self.spend.rows()) else {}
        numbers = {"counts": counts, "tokens": self.tokens(), "seconds": seconds}
        return {**numbers, **models, **self.validation, **notices, **spend}

    def _use(self, used: dict[str, int]) -> None:
        if any(used[name] < self._used.get(name, 0) for name in COUNTERS):
            self._used_before = self.tokens()
        self._used = used

    def _clock(self, kind: str, event: dict) -> None:
        """Adds the time since the last event to the current phase.

        An execution begins with `started` or with loading, whichever comes first; the time before that is left out.
        """
        if event["time"] == self._stamp and kind not in ("started", "phase", "ended"):
            return
        self._stamp, now = event["time"], datetime.fromisoformat(event["time"])
        begins = (kind == "started" and self._phase != "loading") or (kind == "phase" and event["phase"] == "loading")
        if begins:
            self._phase = None
        elif self._phase is not None and self._time is not None:
            spent = max(0.0, (now - self._time).total_seconds())
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + spent
        if kind == "phase":
            self._phase = event["phase"]
            self.seconds.setdefault(self._phase, 0.0)
        elif kind == "ended":
            self._phase = None
        self._time = now


def _frame(run_id: str, rows: list[dict], schema: dict) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in schema if name != "run_id"}
    if "text" in columns:  # lone surrogates cannot be stored as UTF-8
        columns["text"] = [text.encode("utf-8", "replace").decode() for text in columns["text"]]
    frame = pl.DataFrame(columns, schema={name: dtype for name, dtype in schema.items() if name != "run_id"})
    return frame.select(pl.lit(run_id).alias("run_id"), pl.all()) if rows else pl.DataFrame(schema=schema)


def answers_frame(run_id: str, study: str, events: Iterable[dict]) -> pl.DataFrame:
    """One row per answered item, in the order of the answers, with the columns of ANSWERS; `question` is the last user
    text.
    """
    rows = [
        {name: event.get(name) for name in ANSWERS}
        | {"run_id": run_id, "study": study, "question": question_text(event)}
        for event in answer_events(events)
    ]
    return pl.DataFrame([_storable(row) for row in rows], schema=ANSWERS)


def question_text(event: Mapping) -> str:
    """The last user text among the messages of an `answer` event; "" where there is none."""
    return next((words for role, words in reversed(event["messages"]) if role == "user"), "")


def _storable(row: dict) -> dict:
    """The row with lone surrogates replaced, since they cannot be stored as UTF-8."""
    return {
        name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }
