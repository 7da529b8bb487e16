"""All commands: `python -m lab` lists them, `python -m lab NAME ...` is `python -m lab.NAME ...`."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

from lab.commands import PACKAGE, PROG, commands, version

HEAD = "Long dialogues between persona-holding assistants and user simulators: played, measured for drift, trained.\n"
FOOT = f"""
{PROG}NAME ..., or python -m lab NAME ..., runs one; --help behind it shows its options and examples.
Start with: {PROG}run scenarios/long_dialogue.yaml"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 listed, 2 no such command; else the command's own."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    known = commands()
    if name in ("-h", "--help", "help"):
        print(listed(known))
        return 0
    if name == "--version":
        print(f"{PACKAGE} {version()}")
        return 0
    if name not in known:
        from scenarios.suggestions import nearest

        print(f"lab: {name!r} is no command{nearest(name, known)}", file=sys.stderr)
        return 2
    sys.argv = [f"lab.{name}", *rest]
    runpy.run_module(f"lab.{name}", run_name="__main__", alter_sys=True)  # which exits
    return 0


def listed(known: dict[str, str]) -> str:
    """A line a command."""
    width = max(map(len, known))
    return "\n".join([HEAD, *(f"  {name:<{width}}  {told}" for name, told in known.items()), FOOT])


if __name__ == "__main__":
    sys.exit(main())
