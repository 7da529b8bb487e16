"""A stored conversation gone on with from one of its lines in several branches, and how they compare with how it went.

The lines before stand as they were said: at their nodes, on the cues that their speakers had. A new model, adapter, reminder or
direction counts from the first line that is played anew; a new persona or instruction is what a seat is told before all lines, and so
stands above the old ones too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from lab.files import dumps, replace
from lab.frames import judgements_frame, turns_frame
from lab.store import read_events, read_frames, read_manifest
from scenarios import personas as people
from scenarios.reading import as_items, parse
from scenarios.records import SEATS, derive_seed

if TYPE_CHECKING:
    from scenarios.schema import Scenario

ORIGINAL, RESULT = "original.jsonl", "fork.json"
FIXED = {  # keys that a fork may not change, and why
    "personas": "the kept lines are of people in the files as they were",
    "drawn": "the cast is the conversation's; name another persona by seats.SEAT.persona",
    "seed": "the kept lines were drawn by it; --samples gives other lines",
    "conversations": "--samples says how many branches there are",
    "fork": "the command writes it",
    "measure": "the original was measured so; lab.score asks other judges"}
HOW = ("confidence", "resamples")  # of how a run was measured
HEADER = ("from there on", "judge", "seat", "original", "branches")
PARTINGS = ("branch", "parts at turn", "original", "branch says")
NEVER, MISSING = "never", "–"
NOTE = ("Cells are value [interval over branches] n; n counts what is behind the value: branches for lines and contradictions, lines or "
        "pairs scored for shares, questions for answers. A single original has no interval.")
LABELS = {"lines": "lines", "prompt_to_line": "contradictions of the persona", "line_to_line": "contradictions of earlier lines",
          "share_prompt_to_line": "share of lines inconsistent with the persona", "share_line_to_line": "share of pairs inconsistent",
          "questions": "questions answered right"}


@dataclass(frozen=True)
class Comparison:
    """`rows`: measure (a key of LABELS), judge, seat, original, original_n, value, low, high, n; NaN where nothing was scored.
    `partings`: branch, turn (None where it says the same to the end), original, branch (what each says there; None for nothing)."""

    run: str  # id of the original
    conversation: int
    turn: int  # the first line that was played anew
    until: int  # the turn before which lines are compared
    branches: int  # compared, those that failed left out
    failed: list[int]
    rows: list[dict]
    partings: list[dict]


# -- before it is played -------------------------------------------------------------------------------------------------------


def forked(run: str | Path, conversation: int, turn: int, samples: int, overrides: Sequence[str],
           ) -> tuple[Scenario, list[dict], list[dict]]:
    """The scenario of the branches, the events that they begin with, and the original conversation's own. Raises ValueError where there
    is no such line, or something would change that a fork cannot change."""
    from lab.attribution import before, reached
    from scenarios.schema import load_scenario

    manifest, stored, events = read_manifest(run), Path(run) / "scenario.yaml", read_events(run)
    original = load_scenario(stored)
    if original.digest() != manifest.get("digest"):
        raise ValueError(f"{run} was played from other persona files than {', '.join(original.personas)} are now; expected them unchanged")
    if samples < 1:
        raise ValueError(f"--samples is {samples}; expected 1 or more")
    if turn < 1:
        raise ValueError(f"turn {turn}: expected 1 or more, a line that has one before it")
    if not 0 <= conversation < original.conversations:
        raise ValueError(f"{run} has no conversation {conversation}; expected 0 to {original.conversations - 1}")
    _refuse_fixed(overrides)
    cast = people.cast(original)[conversation]
    section = {"run": manifest["run_id"], "conversation": conversation, "turn": turn}
    if original.fork:
        section["of"] = original.fork.model_dump(exclude_none=True)
    ours = {"name": original.name if original.fork else f"{original.name}-fork", "conversations": samples, "fork": section,
            **{f"seats.{seat}.persona": persona.id for seat, persona in cast.items()}}
    scenario = load_scenario(stored, [*as_items(ours), *overrides])
    own = [event for event in events if event.get("conversation") == conversation]
    kept = before(own, turn, scenario, people.cast(scenario)[0] != cast)
    if not reached(kept, turn):
        raise ValueError(f"{run}: conversation {conversation} has no {turn} lines; expected a turn that it has reached")
    return scenario, _begun(original, scenario, kept, events, turn), own


def _refuse_fixed(overrides: Sequence[str]) -> None:
    for override in overrides:
        key = override.partition("=")[0].strip()
        if reason := FIXED.get(key.partition(".")[0]):
            raise ValueError(f"override {override!r}: a fork cannot change {key}: {reason}")
        if key in (f"seats.{seat}.persona" for seat in SEATS) and override.partition("=")[2].strip() == people.SAMPLE:
            raise ValueError(f"override {override!r}: all branches have one cast; expected a persona's id")


def _begun(original: Scenario, scenario: Scenario, kept: Sequence[dict], events: Sequence[dict], turn: int) -> list[dict]:
    """What every branch begins with: the kept events under its number, lines with how they came about, and without the token ids of a model
    that no longer speaks in that seat."""
    from agents.protocol import Usage
    from lab.conversation import Play, stored
    from lab.wiring import engine_name
    from scenarios import graph as graphs

    number = kept[0]["conversation"]
    told = Play(original, graphs.build(original), people.cast(original), {}, [], Usage, stored(events)).told(number, turn)
    if lost := next((event for event in kept if event["event"] == "line" and event["node"] not in scenario.graph.nodes), None):
        raise ValueError(f"graph.nodes: turn {lost['turn']} was said at {lost['node']!r}, which is no node any more; expected the nodes of "
                         "the kept lines")
    foreign = {seat for seat in SEATS if engine_name(original.seats[seat]) != engine_name(scenario.seats[seat])}

    def begun(event: dict, branch: int) -> dict:
        if event["event"] == "judged":
            return event | {"conversation": branch, "rows": [row | {"conversation": branch} for row in event["rows"]]}
        ids = [] if event["seat"] in foreign else event["token_ids"]
        return event | {"conversation": branch, "token_ids": ids, "told": asdict(told[event["turn"]])}

    return [begun(event, branch) for branch in range(scenario.conversations) for event in kept]


# -- once it is played ---------------------------------------------------------------------------------------------------------


def written(path: Path) -> Comparison | None:
    """The comparison of a fork's folder, stored there as fork.json; None where the folder is of no fork. ValueError where what it keeps of
    the original is damaged."""
    if not (path / ORIGINAL).is_file():
        return None
    events, frames = read_events(path), read_frames(path)
    scenario = parse((path / "scenario.yaml").read_text(encoding="utf-8"), str(path / "scenario.yaml")).data
    try:
        original = [json.loads(line) for line in (path / ORIGINAL).read_bytes().splitlines()]
    except ValueError:
        raise ValueError(f"{path / ORIGINAL} is damaged; expected one event a line, as it was written") from None
    failed = sorted(event["conversation"] for event in _ends(events).values() if event["status"] == "failed")
    sides = [{"turns": turns_frame("", original), "judgements": judgements_frame("", original)},
             {name: frames[name].filter(~pl.col("conversation").is_in(failed)) for name in ("turns", "judgements")}]
    found = compare(*sides, scenario["fork"], failed, seed=scenario["seed"], **{key: scenario["measure"][key] for key in HOW})
    replace(path / RESULT, dumps(asdict(found), indent=2) + b"\n")
    return found


def _ends(events: Sequence[dict]) -> dict[int, dict]:
    return {event["conversation"]: event for event in events if event["event"] == "conversation"}


def compare(original: Mapping[str, pl.DataFrame], branches: Mapping[str, pl.DataFrame], fork: Mapping, failed: Sequence[int] = (), *,
            confidence: float, resamples: int, seed: int) -> Comparison:
    """Both sides over the turns that both have, from the fork's on; where the original ends there, the branches alone."""
    from metrics.statistics import clustered_mean

    how = {"confidence": confidence, "resamples": resamples}
    turn, (was_long, is_long) = fork["turn"], (1 + (side["turns"]["turn"].max() or 0) for side in (original, branches))
    until = min(was_long, is_long) if was_long > turn else is_long
    here = (pl.col("turn") >= turn) & (pl.col("turn") < until)
    sides = [{name: frame.filter(here) for name, frame in side.items()} for side in (original, branches)]
    everyone = branches["turns"]["conversation"].unique().sort().to_list()
    rows = []
    for key, (was, now) in _values(*sides, everyone).items():
        found = clustered_mean(now["y"], now["conversation"], seed=derive_seed(seed, "fork", *key), **how)
        before = float(was["y"].mean()) if len(was) else float("nan")
        names = dict(zip(("measure", "judge", "seat"), key, strict=True))
        rows.append(names | {"original": before, "original_n": len(was)} | asdict(found))
    return Comparison(fork["run"], fork["conversation"], turn, until, len(everyone), list(failed), rows,
                      [_parting(sides[0]["turns"], sides[1]["turns"], branch) for branch in everyone])


Values = dict[tuple[str, str | None, str], tuple[pl.DataFrame, pl.DataFrame]]


def _values(original: Mapping, branches: Mapping, everyone: Sequence[int]) -> Values:
    """measure, judge, seat -> (conversation, y) of the original and of the branches, in the order in which they are shown."""
    from metrics.reductions import of_metric

    alone = original["turns"]["conversation"].unique().to_list()
    found: Values = {}
    for seat in SEATS:
        lines = [side["turns"].filter(pl.col("seat") == seat) for side in (original, branches)]
        found["lines", None, seat] = tuple(_counts(part, names) for part, names in zip(lines, (alone, everyone), strict=True))
    for metric in ("prompt_to_line", "line_to_line", "questions"):
        scored = [of_metric(side["judgements"], metric).filter(pl.col("verdict").is_not_null()) for side in (original, branches)]
        keys = sorted(set(pl.concat(scored).select("judge", "seat").unique().rows()), key=lambda key: (key[0], SEATS.index(key[1])))
        for judge, seat in keys:
            mine = [part.filter(pl.col("judge") == judge, pl.col("seat") == seat) for part in scored]
            wrong = [part.select("conversation", y=pl.col("verdict").cast(pl.Float64)) for part in mine]
            if metric == "questions":
                found[metric, judge, seat] = tuple(part.with_columns(y=1 - pl.col("y")) for part in wrong)
                continue
            counted = [_counts(part.filter(pl.col("verdict")), names) for part, names in zip(mine, (alone, everyone), strict=True)]
            found[metric, judge, seat] = tuple(counted)
            found[f"share_{metric}", judge, seat] = tuple(wrong)
    return found


def _counts(rows: pl.DataFrame, conversations: Sequence[int]) -> pl.DataFrame:
    """How many rows each of the conversations has, 0 where none."""
    counted = dict(rows.group_by("conversation").len().rows())
    return pl.DataFrame({"conversation": conversations, "y": [float(counted.get(c, 0)) for c in conversations]},
                        schema={"conversation": pl.Int64, "y": pl.Float64})


def _parting(original: pl.DataFrame, branches: pl.DataFrame, branch: int) -> dict:
    was = dict(original.select("turn", "text").rows())
    now = dict(branches.filter(pl.col("conversation") == branch).select("turn", "text").rows())
    parts = next((turn for turn in sorted(was.keys() | now.keys()) if was.get(turn) != now.get(turn)), None)
    return {"branch": branch, "turn": parts, "original": was.get(parts), "says": now.get(parts)}


# -- for people ----------------------------------------------------------------------------------------------------------------


def heading(found: Comparison) -> str:
    """What is compared, in a sentence or two."""
    failed = f" Left out, since they failed: {', '.join(f'#{c}' for c in found.failed)}." if found.failed else ""
    return (f"Conversation {found.conversation} of {found.run}, from turn {found.turn} on: {found.branches} "
            f"branch{'es' * (found.branches != 1)}, turns {found.turn} to {found.until - 1}.{failed}")


def cells(found: Comparison) -> Iterator[tuple[str, ...]]:
    """Rows under HEADER."""
    for row in found.rows:
        counted = row["measure"] in ("lines", "prompt_to_line", "line_to_line")
        digits = 1 if counted else 2
        interval = "" if isnan(row["low"]) else f" [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
        alone = f"{row['original']:.0f}" if counted else f"{row['original']:.2f} n={row['original_n']}"
        original = alone if row["original_n"] else MISSING
        branches = f"{row['value']:.{digits}f}{interval} n={row['n']}" if row["n"] else MISSING
        yield LABELS[row["measure"]], row["judge"] or MISSING, row["seat"], original, branches


def partings(found: Comparison) -> Iterator[tuple[str, str, str, str]]:
    """Rows under PARTINGS."""
    for one in found.partings:
        turn = NEVER if one["turn"] is None else f"{one['turn']}"
        yield f"#{one['branch']}", turn, one["original"] or MISSING, one["says"] or MISSING
