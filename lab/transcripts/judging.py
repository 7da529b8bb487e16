"""Judges existing conversations; the judgements are stored as events in a run folder, like those of a run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agents.engine.protocol import Engine
from lab.dialogue import judges as wiring_judges
from lab.dialogue.cluster import IN_PROCESS, hosting
from lab.dialogue.validation import validation_events
from lab.store.run_store import RunStore
from lab.transcripts.transcript import Transcript, transcript_pairs
from metrics.catalogue import needed
from metrics.judges import Judge, Pair, judgement
from scenarios.records import Judgement
from scenarios.schema import Measure

LINES_AT_ONCE = 80  # about as many are judged before their judgements are stored
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

    `progress` (auto, rich, plain, none) says how progress is shown on `errors`. Returns the functions that the metrics
    use (see `lab.dialogue.judges.tripwire_aids`). Raises ValueError where a judge cannot be loaded, StoreError.
    """
    needs = wiring_judges.judge_engines(measure)
    store.append({"event": "phase", "phase": "loading", "detail": ", ".join(sorted(needs)) or "no engine"})
    with hosting(IN_PROCESS, len(needs), lambda detail: None) as make:
        engines = {name: make(name, dtype, device) for name in sorted(needs)}
        judges = wiring_judges.judges(measure, engines, device)
        embed = wiring_judges.retriever(measure, device)
        store.append(_opening(store, transcripts, engines))
        casts = [transcript.cast for transcript in transcripts]
        for event in validation_events(measure, judges, casts, store.manifest["seed"]):
            store.append(event)
        store.update_manifest()
        store.append({"event": "phase", "phase": "playing", "detail": ", ".join(measure.judge)})
        wanted = needed(measure.metrics)
        with _progress(errors, sum(len(transcript.lines) for transcript in transcripts), progress) as advance:
            for portion in _portions(transcripts):
                rows = judge_all(
                    judges, [pair for transcript in portion for pair in transcript_pairs(transcript, wanted, embed)]
                )
                _store(store, portion, rows)
                advance(sum(len(transcript.lines) for transcript in portion))
    store.append({"event": "phase", "phase": "measuring", "detail": ", ".join(measure.metrics)})
    return wiring_judges.tripwire_aids(measure, engines, device)


def _portions(transcripts: Sequence[Transcript]) -> Iterator[list[Transcript]]:
    """The conversations in order, in groups of at least `LINES_AT_ONCE` lines, except for the last group."""
    portion: list[Transcript] = []
    for transcript in transcripts:
        portion.append(transcript)
        if sum(len(each.lines) for each in portion) >= LINES_AT_ONCE:
            yield portion
            portion = []
    if portion:
        yield portion


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
        "resumed": False,
    }


def _store(store: RunStore, transcripts: Sequence[Transcript], rows: Sequence[Judgement]) -> None:
    """Stores the conversations and their judgements as events."""
    by_turn: dict[tuple[int, int], list[dict]] = {}
    for row in rows:
        by_turn.setdefault((row.conversation, row.turn), []).append(dict(vars(row)))
    for transcript in transcripts:
        for line in transcript.lines:
            store.append({"event": "line", **vars(line)})
            store.append(
                {
                    "event": "judged",
                    "conversation": line.conversation,
                    "turn": line.turn,
                    "by": "judges",
                    "rows": by_turn.get((line.conversation, line.turn), []),
                }
            )
        store.append(
            {"event": "conversation", "conversation": transcript.conversation, "status": "finished", "reason": None}
        )


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
