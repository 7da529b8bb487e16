"""Forks of a stored conversation: branches that continue it from one of its lines.

The lines before the fork stay as they are, with their nodes and instructions. A new model, adapter, reminder or
steering direction takes effect at the first new line. A new persona or instruction is part of the system text, and
therefore stands before the old lines too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.store.event_log import read_events
from lab.store.run_store import read_manifest
from scenarios import personas as people
from scenarios.overrides import as_items
from scenarios.records import SEATS

if TYPE_CHECKING:
    from scenarios.scenario import Scenario


FIXED = {  # keys that a fork may not change, and why
    "personas": "the kept lines belong to the personas of the original's files",
    "persona_pool": "the cast is the conversation's; name another persona by seats.SEAT.persona",
    "seed": "the kept lines were drawn by it; --samples gives other lines",
    "conversations": "--samples says how many branches there are",
    "fork": "the command writes it",
    "measure": "a fork is measured as its original was; lab.score runs other judges",
}


# -- before it is played


def forked(
    run: str | Path,
    conversation: int,
    turn: int,
    samples: int,
    overrides: Sequence[str],
) -> tuple[Scenario, list[dict], list[dict]]:
    """The scenario of the branches, the events with which they begin, and the events of the original conversation.

    Raises ValueError where there is no such line, or an override changes a key that a fork cannot change.
    """
    from lab.runs.attribution import events_before
    from lab.store.frames import reached
    from scenarios.scenario import load_scenario

    manifest, stored, events = read_manifest(run), Path(run) / "scenario.yaml", read_events(run)
    original = load_scenario(stored)
    if original.digest() != manifest.get("digest"):
        raise ValueError(
            f"{run} was played from other persona files than {', '.join(original.personas)} are now; expected them "
            "unchanged"
        )
    if samples < 1:
        raise ValueError(f"--samples is {samples}; expected 1 or more")
    if turn < 1:
        raise ValueError(f"turn {turn}: expected 1 or more, a turn after the first")
    if not 0 <= conversation < original.conversations:
        raise ValueError(f"{run} has no conversation {conversation}; expected 0 to {original.conversations - 1}")
    _refuse_fixed(overrides)
    cast = people.cast(original)[conversation]
    section = {"run": manifest["run_id"], "conversation": conversation, "turn": turn}
    if original.fork:
        section["of"] = original.fork.model_dump(exclude_none=True)
    ours = {
        "name": original.name if original.fork else f"{original.name}-fork",
        "conversations": samples,
        "fork": section,
        **{
            f"seats.{seat}.persona": who.id
            for seat, who in cast.items()
            if isinstance(original.seats[seat].persona, str)
        },
    }
    scenario = load_scenario(stored, [*as_items(ours), *overrides])
    own = [event for event in events if event.get("conversation") == conversation]
    kept = events_before(own, turn, scenario, people.cast(scenario)[0] != cast)
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


def _begun(
    original: Scenario, scenario: Scenario, kept: Sequence[dict], events: Sequence[dict], turn: int
) -> list[dict]:
    """The events with which the branches begin: the kept events, under the number of each branch.

    Lines have their instruction and fact (`origin`), and no token ids where another model now speaks in their seat.
    """
    from agents.engine.protocol import Usage
    from lab.dialogue.loop import Play
    from lab.dialogue.seats import engine_name
    from lab.store.resume import stored
    from scenarios import graph as graphs

    number = kept[0]["conversation"]
    origins = Play(original, graphs.build(original), people.cast(original), {}, [], Usage, stored(events)).line_origins(
        number, turn
    )
    if lost := next(
        (event for event in kept if event["event"] == "line" and event["node"] not in scenario.graph.nodes), None
    ):
        raise ValueError(
            f"graph.nodes: turn {lost['turn']} was said at {lost['node']!r}, which the graph no longer has; "
            "expected a graph with the nodes of all kept lines"
        )
    foreign = {seat for seat in SEATS if engine_name(original.seats[seat]) != engine_name(scenario.seats[seat])}

    def begun(event: dict, branch: int) -> dict:
        if event["event"] == "judged":
            return event | {"conversation": branch, "rows": [row | {"conversation": branch} for row in event["rows"]]}
        ids = [] if event["seat"] in foreign else event["token_ids"]
        return event | {"conversation": branch, "token_ids": ids, "origin": origins[event["turn"]]}

    return [begun(event, branch) for branch in range(scenario.conversations) for event in kept]
