"""Events as a run writes them, small enough to count by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from typing_extensions import is_typeddict

from lab.progress.run import State, apply
from lab.store.events import KINDS

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def replay(events: Iterable[dict], path: str = "") -> State:
    """The state of a new run after these events."""
    state = State(path=path)
    for event in events:
        apply(state, event)
    return state


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def started(seconds: float = 0.0, conversations: int = 2, turns: int = 4, **more) -> dict:
    cast = [
        {"conversation": number, "assistant": "radio_host", "user": user}
        for number, user in zip(range(conversations), ("grace", "hiro", "mara", "sam") * conversations, strict=False)
    ]
    return {
        "event": "started",
        "time": at(seconds),
        "run_id": "run-1",
        "name": "small",
        "conversations": conversations,
        "turns": turns,
        "qa_every": 4,
        "cast": cast,
        "nodes": ["greet", "talk", "never"],
        "edges": [["greet", "talk"], ["talk", "never"]],
        "models": {"assistant": "embedded", "user": "embedded"},
        "device": "cpu",
        "dtype": "float32",
        **more,
    }


def phase(name: str, seconds: float, detail: str = "") -> dict:
    return {"event": "phase", "time": at(seconds), "phase": name, "detail": detail}


def line(conversation: int, turn: int, text: str = "Hello there.", seconds: float = 1.0, node: str = "talk") -> dict:
    seat = ("assistant", "user")[turn % 2]
    persona = "radio_host" if seat == "assistant" else ("grace", "hiro", "mara", "sam")[conversation % 4]
    return {
        "event": "line",
        "time": at(seconds),
        "conversation": conversation,
        "turn": turn,
        "seat": seat,
        "persona": persona,
        "node": node,
        "text": text,
        "tokens": 3,
        "token_ids": [5, 6, 2],
        "logprob": -1.5,
        "seconds": 0.25,
    }


def row(
    conversation: int,
    turn: int,
    verdict: bool | None,
    against: str = "persona",
    metric: str = "prompt_to_line",
    judge: str = "ledger",
    span: tuple[int, int] | None = None,
    seat: str | None = None,
) -> dict:
    """A judgement; verdict None means unscored."""
    return {
        "conversation": conversation,
        "turn": turn,
        "seat": seat or ("assistant", "user")[turn % 2],
        "metric": metric,
        "judge": judge,
        "against": against,
        "p_inconsistent": None if verdict is None else float(verdict),
        "verdict": verdict,
        "unscored": "no claim found" if verdict is None else None,
        "span": span,
    }


def judged(conversation: int, turn: int, *rows: dict, by: str = "judges", seconds: float = 1.0) -> dict:
    return {
        "event": "judged",
        "time": at(seconds),
        "conversation": conversation,
        "turn": turn,
        "by": by,
        "rows": list(rows),
    }


def usage(generated: int, seconds: float, new: int = 0, computed: int = 0) -> dict:
    return {
        "event": "usage",
        "time": at(seconds),
        "tokens_new": new,
        "tokens_computed": computed,
        "generated": generated,
        "seconds": {"generate": 1.0, "read": 0.0, "score": 0.0},
    }


def ended(seconds: float, status: str = "finished", reason: str | None = None) -> dict:
    return {"event": "ended", "time": at(seconds), "status": status, "reason": reason}


def a_run(conversations: int = 2, turns: int = 4, whole: bool = True) -> list[dict]:
    """A line a second from second 10 on, dialogue by dialogue, every second one of the user's contradicting its job."""
    events, second = [phase("loading", 0), started(8, conversations, turns), phase("playing", 9)], 10
    for number in range(conversations):
        for turn in range(turns):
            events.append(line(number, turn, f"This is line {turn} of {number}.", second))
            bad = turn % 4 == 1
            rows = [row(number, turn, bad), *[row(number, turn, True, "job", span=(0, 4))] * bad]
            events.append(judged(number, turn, *rows, seconds=second))
            second += 1
        events.append(
            {"event": "conversation", "time": at(second), "conversation": number, "status": "finished", "reason": None}
        )
    return [*events, ended(second)] if whole else events


def append(log: Path, *events: dict) -> None:
    """At the end of the file, as a run does."""
    with log.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def faults(events: Iterable[dict]) -> list[str]:
    """What the page of the event log (lab.store.events) does not say of these events, a sentence each."""
    out = []
    for event in events:
        if event["event"] in KINDS:
            out += _faults(event, KINDS[event["event"]], event["event"])
        else:
            out.append(f"{event['event']} is no kind")
    return out


def _faults(value: object, shape: Any, where: str) -> list[str]:
    """How a value out of JSON departs from a type of the page; of several types, from the one that it is nearest to."""
    arguments, wrong = get_args(shape), [f"{where} is {value!r}, expected {shape}"]
    if get_origin(shape) in (UnionType, Union):
        return min((_faults(value, each, where) for each in arguments), key=len)
    if is_typeddict(shape):
        return _faults_of_fields(value, shape, where) if isinstance(value, dict) else wrong
    if get_origin(shape) is Literal:
        return [] if value in arguments else wrong
    if get_origin(shape) is list and isinstance(value, list):
        return [fault for n, each in enumerate(value) for fault in _faults(each, arguments[0], f"{where}[{n}]")]
    if get_origin(shape) is dict and isinstance(value, dict):
        return [fault for key, each in value.items() for fault in _faults(each, arguments[1], f"{where}.{key}")]
    accepted = {float: (int, float), NoneType: NoneType, Any: object}.get(shape, shape)
    plain = isinstance(accepted, (type, tuple)) and isinstance(value, accepted)
    return [] if plain and (shape in (bool, Any) or not isinstance(value, bool)) else wrong


def _faults_of_fields(value: dict, shape: type, where: str) -> list[str]:
    types = get_type_hints(shape)
    missing = [f"{where} has no {name}" for name in sorted(shape.__required_keys__ - value.keys())]
    unknown = [f"{where} has {name}, which the page does not know" for name in sorted(value.keys() - types.keys())]
    fields = [_faults(value[name], types[name], f"{where}.{name}") for name in value.keys() & types.keys()]
    return [*missing, *unknown, *(fault for field_faults in fields for fault in field_faults)]
