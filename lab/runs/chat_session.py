"""A chat: a run of one conversation in which a person types the lines of one seat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.store.session import LOG, aside, carried_out, unfinished

if TYPE_CHECKING:
    from lab.store.run_store import RunStore
    from scenarios.scenario import Scenario


SCENARIO = Path(__file__).parents[2] / "scenarios" / "chat.yaml"
MODEL_KEYS = {"script": None, "endpoint": None, "adapter": None, "steer": None, "reminder": ""}  # no person has those


def chat_scenario(
    seat: str,
    me: str | None,
    agent: Mapping[str, str | None],
    overrides: Sequence[str],
    *,
    file: str | Path | None = None,
    personas: str | None = None,
) -> Scenario:
    """The scenario of a chat: one conversation, with a person in `seat` (user or assistant).

    - `me`: the id of the person's persona; None for an unknown one.
    - `agent`: persona, model and adapter of the other seat; None keeps that of the scenario.
    - `file`: the scenario (default: a plain chat in which the seats alternate).
    - `personas`: a persona file in place of the scenario's.

    Raises ValueError where there is not exactly one conversation, or not exactly one person.
    """
    from scenarios.fields import HUMAN
    from scenarios.overrides import as_items
    from scenarios.personas import UNKNOWN
    from scenarios.records import PARTNER
    from scenarios.scenario import load_scenario

    keys = {"conversations": 1, f"seats.{seat}.model": HUMAN, f"seats.{seat}.persona": me or UNKNOWN}
    keys |= {f"seats.{seat}.{key}": value for key, value in MODEL_KEYS.items()}
    chosen = {f"seats.{PARTNER[seat]}.{key}": value for key, value in agent.items()} | {"personas": personas}
    keys |= {key: value for key, value in chosen.items() if value is not None}
    scenario = load_scenario(file or SCENARIO, [*as_items(keys), *overrides])
    if scenario.conversations != 1:
        raise ValueError(f"conversations is {scenario.conversations}; expected 1, since a chat is one conversation")
    if scenario.seats.humans() != [seat]:
        raise ValueError(
            f"seats.{seat}.model is {scenario.seats[seat].model!r}; expected {HUMAN!r}, for you, there and nowhere else"
        )
    return scenario


def resumed_chat(run: str | Path) -> Scenario:
    """The scenario of the stored chat `run`. Raises ValueError for a run in which no person types."""
    from lab.runs.runner import resumed

    scenario = resumed(run)
    if len(scenario.seats.humans()) != 1:
        raise ValueError(f"{run} is no chat, since none of its seats is typed; expected a run of lab.chat")
    return scenario


def play_chat(scenario: Scenario, store: RunStore, *, address: str | None) -> int:
    """Plays the chat in the terminal.

    Returns the exit code: 0 ended, 2 failed (with the reason on stderr), 130 interrupted before its report.
    """
    from lab.live.chat_screen import Chat
    from lab.live.run_monitor import closing_notes, conclude, run_summary
    from lab.runs.runner import perform_run
    from lab.store.console import Console
    from lab.store.run_store import read_frames
    from scenarios import personas as people

    with aside(store.path / LOG) as (screen, errors):
        console, seat = Console(file=screen, markup=False, highlight=False), scenario.seats.humans()[0]
        with Chat(console, seat, people.cast(scenario)[0], scenario.seats[seat].instruction, str(store.path)) as chat:
            status, reason, _ = carried_out(
                lambda: perform_run(scenario, store, chat, address=address, words=chat.words), store, chat.show, "line"
            )
        if status != "finished":
            return unfinished("lab.chat", "line", status, reason, console, errors, store.path)
        summary = run_summary(read_frames(store.path), store.manifest)
        conclude(console, summary, store.path, closing_notes(store.manifest))
    return 0
