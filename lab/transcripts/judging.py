"""Judges existing conversations; the judgements are stored as events in a run folder, like those of a run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agents.engine.protocol import Engine
from lab.dialogue import judges as wiring_judges
from lab.dialogue.cluster import IN_PROCESS, hosting
from lab.dialogue.spending import judge_spending
from lab.dialogue.validation import validation_events
from lab.store.console import Console
from lab.store.frames import ends
from lab.store.run_store import RunStore
from lab.transcripts.transcript import Transcript, transcript_pairs
from metrics.catalogue import needed
from metrics.judges import Judge, Pair, judgement
from scenarios.records import Judgement, Line
from scenarios.schema import Measure

LINES_AT_ONCE = 80  # about as many are judged before their judgements are stored
PAIRS_AT_ONCE = 16  # the same, by judges of which a judgement may cost money: as many as a server is asked at once
REPORT_EVERY_S = 10.0  # where there is no terminal to draw a bar on
NO_PERSONA = "the speaker's persona is unknown"


def judge_transcripts(
    store: RunStore,
    transcripts: Sequence[Transcript],
    measure: Measure,
    device: str,
    dtype: str,
    errors: TextIO,
    progress: str = "auto",
) -> dict[str, Callable]:
    """Judges every line by the judges and for the metrics of `measure`, and stores the judgements a few conversations
    at a time, after the validation of the judges.

    What an earlier execution stored is not judged again. `progress` (auto, rich, plain, none) says how progress is
    shown on `errors`. Returns the functions that the metrics use (see `lab.dialogue.judges.tripwire_aids`). Raises
    ValueError where a judge cannot be loaded, StoreError.
    """
    needs = wiring_judges.judge_engines(measure)
    store.append({"event": "phase", "phase": "loading", "detail": ", ".join(sorted(needs)) or "no engine"})
    spending = judge_spending(measure)
    with hosting(IN_PROCESS, len(needs), lambda detail: None) as make:
        engines = {name: make(name, dtype, device) for name in sorted(needs)}
        judges = wiring_judges.judges(measure, engines, device)
        embed = wiring_judges.retriever(measure, device)
        store.append(_opening(store, transcripts, engines))
        casts = [transcript.cast for transcript in transcripts]
        validation = validation_events(measure, judges, casts, store.manifest["seed"], store.earlier)
        for event in spending.after(validation):
            store.append(event)
        store.update_manifest()
        store.append({"event": "phase", "phase": "playing", "detail": ", ".join(measure.judge)})
        wanted, costs = needed(measure.metrics), wiring_judges.may_cost(measure)
        judged = {(event["conversation"], event["turn"]) for event in store.earlier if event["event"] == "judged"}
        ended = ends(store.earlier)
        with _progress(errors, sum(len(transcript.lines) for transcript in transcripts), progress) as advance:
            for portion in _portions(transcripts, lambda one: transcript_pairs(one, wanted, embed), costs):
                if any((line.conversation, line.turn) not in judged for line in portion.lines):
                    _store(store, portion.lines, judge_all(judges, portion.pairs))
                    store.append_all(list(spending.new()))
                for conversation in portion.ended:
                    if conversation not in ended:
                        store.append(_end(conversation))
                advance(len(portion.lines))
    store.append({"event": "phase", "phase": "measuring", "detail": ", ".join(measure.metrics)})
    return wiring_judges.tripwire_aids(measure, engines, device)


@dataclass(frozen=True)
class _Portion:
    """Lines that are judged together, their pairs, and the conversations that end with them."""

    lines: Sequence[Line]
    pairs: Sequence[Pair]
    ended: Sequence[int]


def _portions(
    transcripts: Iterable[Transcript], pairs_of: Callable[[Transcript], Iterable[Pair]], in_lines: bool
) -> Iterator[_Portion]:
    """The lines in order, in portions that are the same in every execution.

    They are whole conversations with at least LINES_AT_ONCE lines, or, with `in_lines`, lines with at least
    PAIRS_AT_ONCE pairs; the last one may be smaller.
    """
    lines: list[Line] = []
    pairs: list[Pair] = []
    ended: list[int] = []
    for transcript in transcripts:
        by_turn: dict[int, list[Pair]] = {}
        for pair in pairs_of(transcript):
            by_turn.setdefault(pair.turn, []).append(pair)
        for line in transcript.lines:
            lines.append(line)
            pairs += by_turn.get(line.turn, ())
            if in_lines and len(pairs) >= PAIRS_AT_ONCE:
                yield _Portion(lines, pairs, ended)
                lines, pairs, ended = [], [], []
        ended.append(transcript.conversation)
        if not in_lines and len(lines) >= LINES_AT_ONCE:
            yield _Portion(lines, pairs, ended)
            lines, pairs, ended = [], [], []
    if lines or ended:
        yield _Portion(lines, pairs, ended)


def judge_all(judges: Sequence[Judge], pairs: Sequence[Pair]) -> list[Judgement]:
    """The judgements of every pair by every judge. A pair whose speaker's persona is unknown is unscored by all
    judges.
    """
    nobody = [pair for pair in pairs if pair.metric == "prompt_to_line" and not pair.persona.card]
    known = [pair for pair in pairs if pair.metric != "prompt_to_line" or pair.persona.card]
    return [
        row
        for judge in judges
        for row in (*_judge(judge, known), *(judgement(pair, judge.name, unscored=NO_PERSONA) for pair in nobody))
    ]


def _judge(judge: Judge, pairs: Sequence[Pair]) -> list[Judgement]:
    """The judgements of the pairs by the judge.

    Where it raises ValueError (for example, a persona is longer than its model's context), each conversation is judged
    by itself, and the pairs of those that fail are unscored.
    """
    try:
        return judge.judge(pairs)
    except ValueError as error:
        by_conversation: dict[int, list[Pair]] = {}
        for pair in pairs:
            by_conversation.setdefault(pair.conversation, []).append(pair)
        if len(by_conversation) == 1:
            return [judgement(pair, judge.name, unscored=str(error)) for pair in pairs]
        return [row for own in by_conversation.values() for row in _judge(judge, own)]


def _opening(store: RunStore, transcripts: Sequence[Transcript], engines: Mapping[str, Engine]) -> dict:
    infos = [engine.info() for engine in engines.values()]
    device, dtype = (", ".join(sorted({getattr(info, key) for info in infos})) for key in ("device", "dtype"))
    cast = [
        {"conversation": transcript.conversation, "name": transcript.name}
        | {seat: persona.id for seat, persona in transcript.cast.items()}
        for transcript in transcripts
    ]
    return {
        "event": "started",
        "run_id": store.run_id,
        "name": store.manifest["scenario"],
        "conversations": len(transcripts),
        "turns": max(len(transcript.lines) for transcript in transcripts),
        "cast": cast,
        "nodes": [],
        "edges": [],
        "models": {},
        "device": device or "no engine",
        "dtype": dtype,
        "resumed": bool(store.earlier),
    }


def _store(store: RunStore, lines: Sequence[Line], rows: Sequence[Judgement]) -> None:
    """Stores the lines and their judgements as events."""
    by_turn: dict[tuple[int, int], list[dict]] = {}
    for row in rows:
        by_turn.setdefault((row.conversation, row.turn), []).append(dict(vars(row)))
    store.append_all(
        [
            event
            for line in lines
            for event in (
                {"event": "line", **vars(line)},
                {
                    "event": "judged",
                    "conversation": line.conversation,
                    "turn": line.turn,
                    "by": "judges",
                    "rows": by_turn.get((line.conversation, line.turn), []),
                },
            )
        ]
    )


def _end(conversation: int) -> dict:
    return {"event": "conversation", "conversation": conversation, "status": "finished", "reason": None}


@contextlib.contextmanager
def _progress(errors: TextIO, lines: int, progress: str) -> Iterator[Callable[[int], None]]:
    """A context that gives a function which takes the number of further lines judged.

    It shows a progress bar on a terminal, elsewhere a sentence every REPORT_EVERY_S seconds.
    """
    console = Console(file=errors, force_jupyter=False, quiet=progress == "none")
    live = console.is_terminal and progress != "plain"
    began, done = time.monotonic(), 0
    bar = Progress(
        TextColumn("judging"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not live,
    )
    task, last_shown = bar.add_task("judging", total=lines), began

    def advance(more: int) -> None:
        nonlocal done, last_shown
        done += more
        bar.advance(task, more)
        now = time.monotonic()
        if done == lines or (not live and now - last_shown >= REPORT_EVERY_S):
            last_shown = now
            console.print(f"{done} of {lines} lines judged in {now - began:.0f} s", highlight=False)

    with bar:
        yield advance
