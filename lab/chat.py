"""Take a seat yourself: `python -m lab.chat --persona NAME [--seat user|assistant] [--me NAME] [key=value ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lab.commands import Parser, obeyed

OF_A_NEW_CHAT = ("persona", "model", "adapter", "me", "personas", "scenario")  # options that --resume excludes
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
    from lab.runs.chat_session import chat_scenario, resumed_chat, talk
    from lab.runs.runner import new_store
    from lab.store.run_store import open_for_resume

    if sys.stdin is None:
        raise ValueError("standard input is closed; expected a terminal, or lines piped in")
    if args.resume:
        if beside := [*(f"--{name}" for name in OF_A_NEW_CHAT if getattr(args, name)), *args.overrides]:
            raise ValueError(f"{beside[0]} beside --resume; expected nothing: a chat goes on as it was")
        scenario = resumed_chat(args.resume)
    else:
        agent = {"persona": args.persona, "model": args.model, "adapter": args.adapter}
        scenario = chat_scenario(args.seat, args.me, agent, args.overrides, file=args.scenario, personas=args.personas)
    wiring.check(scenario, typed=True)
    cluster.check(args.address)
    with open_for_resume(args.resume) if args.resume else new_store(args.runs, scenario) as store:
        return talk(scenario, store, address=args.address)


if __name__ == "__main__":
    sys.exit(main())
