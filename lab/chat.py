"""Take a seat yourself: `python -m lab.chat --persona NAME [--seat user|assistant] [--me NAME] [key=value ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.commands import Parser, obeyed
from lab.store.session import INTERRUPTED

if TYPE_CHECKING:
    from lab.store.run_store import RunStore
    from scenarios.scenario import Scenario


SCENARIO = Path(__file__).parents[1] / "scenarios" / "chat.yaml"
NOT_YOURS = {
    "script": None,
    "endpoint": None,
    "adapter": None,
    "steer": None,
    "reminder": "",
}  # keys of a seat that are not a person's
EXAMPLES = """examples:
  python -m lab.chat --persona radio_host
  python -m lab.chat --persona tutor --me grace seats.assistant.temperature=0.5
  python -m lab.chat --seat assistant --persona tomas --adapter runs/trained/adapter
  python -m lab.chat --scenario scenarios/long_dialogue.yaml --me amina
  python -m lab.chat --resume runs/20260101T120000Z-chat-1a2b

After every line stands what the judges find in it: the facts that it claims, and whether they contradict the
speaker's card or an earlier line. /card shows the card of whom you talk with, /quit or Ctrl-D ends the chat, which is
a finished run then, with its report. Ctrl-C ends it too, after the line that is being said.
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.chat",
        description="Talk with an agent in the terminal, its lines judged as they come.",
        epilog=EXAMPLES,
    )
    out.add_argument(
        "overrides", nargs="*", metavar="key=value", help="dotted keys of the scenario, such as dtype=float32"
    )
    out.add_argument(
        "--persona", metavar="NAME", help="whom you talk with: a persona's id, or sample (default: the scenario's)"
    )
    out.add_argument("--model", help="the agent's model: embedded, a hub id, a path (default: the scenario's)")
    out.add_argument("--adapter", metavar="DIR", help="a trained adapter for it")
    out.add_argument("--seat", choices=("user", "assistant"), default="user", help="where you sit (default: user)")
    out.add_argument(
        "--me", metavar="NAME", help="a persona that you hold yourself (default: nobody we know anything of)"
    )
    out.add_argument("--personas", metavar="FILE", help="a persona file in place of the scenario's")
    out.add_argument(
        "--scenario", metavar="FILE", help="a scenario to talk along (default: plain talk, back and forth)"
    )
    out.add_argument("--resume", metavar="RUN", help="go on with an earlier chat")
    out.add_argument("--runs", default="runs", metavar="DIR", help="where run folders are made (default: runs)")
    out.add_argument(
        "--address",
        default="none",
        help="a Ray cluster, as for lab.run (default: none, since one process starts faster)",
    )
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 talked, 2 refused or failed with a sentence on stderr, 130 stopped before its report."""
    return obeyed(parser(), _run, arguments)


def _run(args: argparse.Namespace) -> int:
    from lab.dialogue import cluster, wiring
    from lab.runs.runner import new_store
    from lab.store.run_store import open_for_resume

    if sys.stdin is None:
        raise ValueError("standard input is closed; expected a terminal, or lines piped in")
    scenario = _resumed(args) if args.resume else _scenario(args)
    wiring.check(scenario, typed=True)
    cluster.check(args.address)
    with open_for_resume(args.resume) if args.resume else new_store(args.runs, scenario) as store:
        return _talk(args, scenario, store)


def _scenario(args: argparse.Namespace) -> Scenario:
    """One conversation of the scenario, with you in your seat."""
    from scenarios.fields import HUMAN
    from scenarios.overrides import as_items
    from scenarios.personas import UNKNOWN
    from scenarios.records import PARTNER
    from scenarios.scenario import load_scenario

    me, agent = args.seat, PARTNER[args.seat]
    ours = {"conversations": 1, f"seats.{me}.model": HUMAN, f"seats.{me}.persona": args.me or UNKNOWN}
    ours |= {f"seats.{me}.{key}": value for key, value in NOT_YOURS.items()}
    asked = {
        f"seats.{agent}.persona": args.persona,
        f"seats.{agent}.model": args.model,
        f"seats.{agent}.adapter": args.adapter,
        "personas": args.personas,
    }
    ours |= {key: value for key, value in asked.items() if value is not None}
    scenario = load_scenario(args.scenario or SCENARIO, [*as_items(ours), *args.overrides])
    if scenario.conversations != 1:
        raise ValueError(f"conversations is {scenario.conversations}; expected 1, the one that you talk in")
    if scenario.seats.humans() != [me]:
        raise ValueError(
            f"seats.{me}.model is {scenario.seats[me].model!r}; expected {HUMAN!r}, for you, there and nowhere else"
        )
    return scenario


def _resumed(args: argparse.Namespace) -> Scenario:
    from lab.runs.runner import resumed

    beside = [
        f"--{name}" for name in ("persona", "model", "adapter", "me", "personas", "scenario") if getattr(args, name)
    ] + args.overrides
    if beside:
        raise ValueError(f"{beside[0]} beside --resume; expected nothing: a chat goes on as it was")
    args.limit = None
    scenario = resumed(args)
    if len(scenario.seats.humans()) != 1:
        raise ValueError(f"{args.resume} is no chat: nobody types in it; expected a run of lab.chat")
    return scenario


def _talk(args: argparse.Namespace, scenario: Scenario, store: RunStore) -> int:
    from rich.console import Console

    from lab.live.chat_screen import Chat
    from lab.live.run_monitor import conclude, summary
    from lab.runs.runner import perform
    from lab.store.run_store import read_frames
    from lab.store.session import LOG, aside, carried_out
    from scenarios import personas as people

    with aside(store.path / LOG) as (screen, errors):
        console, seat = Console(file=screen, markup=False, highlight=False), scenario.seats.humans()[0]
        with Chat(console, seat, people.cast(scenario)[0], scenario.seats[seat].instruction, str(store.path)) as chat:
            status, reason, _ = carried_out(
                lambda: perform(args, scenario, store, chat, chat.words), store, chat.show, "line"
            )
        if status == "failed":
            print(f"lab.chat: {reason}", file=errors)
            return 2
        if status == "interrupted":
            console.print(f"Interrupted. Every line is kept: python -m lab.chat --resume {store.path}", soft_wrap=True)
            return INTERRUPTED
        conclude(console, summary(read_frames(store.path)), store.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
