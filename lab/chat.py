"""Talk with an agent: `python -m lab.chat --persona NAME [--seat user|assistant] [--me NAME] [key=value ...]`."""

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

Below every line the judges show the facts that it claims, and whether they contradict the speaker's card or an earlier
line. /card shows the card of your partner. /quit or Ctrl-D ends the chat and writes its report: a chat is a run like
any other. Ctrl-C ends it too, after the present line.
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.chat",
        description="Talk with an agent in the terminal; every line is judged as soon as it is said.",
        epilog=EXAMPLES,
    )
    out.add_argument(
        "overrides", nargs="*", metavar="key=value", help="dotted keys of the scenario, such as dtype=float32"
    )
    out.add_argument(
        "--persona",
        metavar="NAME",
        help="persona of the agent: its id, or sample for a random one (default: the scenario's)",
    )
    out.add_argument("--model", help="the agent's model: embedded, a hub id, a path (default: the scenario's)")
    out.add_argument("--adapter", metavar="DIR", help="trained adapter for the agent's model")
    out.add_argument(
        "--seat", choices=("user", "assistant"), default="user", help="the seat that you take (default: user)"
    )
    out.add_argument(
        "--me", metavar="NAME", help="id of the persona that you play (default: unknown, without any facts)"
    )
    out.add_argument("--personas", metavar="FILE", help="persona file, in place of the scenario's")
    out.add_argument(
        "--scenario", metavar="FILE", help="scenario whose graph the chat follows (default: a plain chat, turn by turn)"
    )
    out.add_argument("--resume", metavar="RUN", help="resume an earlier chat")
    out.add_argument("--runs", default="runs", metavar="DIR", help="parent folder of new runs (default: runs)")
    out.add_argument(
        "--address",
        default="none",
        help="address of a Ray cluster, as for lab.run (default: none, which starts faster)",
    )
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 talked, 2 refused or failed with a sentence on stderr, 130 stopped before its report."""
    return obeyed(parser(), _run, arguments)


def _run(args: argparse.Namespace) -> int:
    from lab.dialogue import cluster, wiring
    from lab.runs.chat_session import chat_scenario, play_chat, resumed_chat
    from lab.runs.runner import new_store
    from lab.store.run_store import open_for_resume

    if sys.stdin is None:
        raise ValueError("standard input is closed; expected a terminal, or lines piped in")
    if args.resume:
        if beside := [*(f"--{name}" for name in OF_A_NEW_CHAT if getattr(args, name)), *args.overrides]:
            raise ValueError(
                f"{beside[0]} beside --resume; expected nothing: a chat is resumed with its settings unchanged"
            )
        scenario = resumed_chat(args.resume)
    else:
        agent = {"persona": args.persona, "model": args.model, "adapter": args.adapter}
        scenario = chat_scenario(args.seat, args.me, agent, args.overrides, file=args.scenario, personas=args.personas)
    wiring.check_scenario(scenario, typed=True)
    cluster.check_cluster(args.address)
    with open_for_resume(args.resume) if args.resume else new_store(args.runs, scenario) as store:
        return play_chat(scenario, store, address=args.address)


if __name__ == "__main__":
    sys.exit(main())
