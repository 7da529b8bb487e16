"""All commands: `python -m lab` lists them, `python -m lab NAME ...` is `python -m lab.NAME ...`."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

from lab.commands import PACKAGE, PROG, commands, version
from lab.store.output import say
from scenarios.messages import hidden

HEAD = "Long dialogues between persona-holding assistants and user simulators: played, measured for drift, trained.\n"
FOOT = f"""
Run a command with {PROG}NAME ... or python -m lab NAME ...; {PROG}NAME --help shows its options and examples.
Start with: {PROG}run scenarios/long_dialogue.yaml"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 listed, 2 no such command; else the command's own."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    known = commands()
    if name in ("-h", "--help", "help"):
        say(listed(known, packages()))
        return 0
    if name == "--version":
        say(f"{PACKAGE} {version()}")
        return 0
    if name not in known:
        from scenarios.suggestions import nearest

        say(f"lab: {name!r} is no command{nearest(name, known)}", file=sys.stderr)
        return 2
    sys.argv = [f"lab.{name}", *rest]
    runpy.run_module(f"lab.{name}", run_name="__main__", alter_sys=True)  # which exits
    return 0


def listed(known: dict[str, str], added: Sequence[tuple[str, str, str]]) -> str:
    """One line per command, and one per entry that an installed package adds: kind, name, and package or problem."""
    width = max(map(len, known))
    lines = [HEAD, *(f"  {name:<{width}}  {about}" for name, about in known.items())]
    wide = max((len(name) for _, name, _ in added), default=0)
    lines += ["\nInstalled packages add:"] * bool(added)
    lines += [f"  {kind:<{len('reward part')}}  {name:<{wide}}  {about}" for kind, name, about in added]
    return "\n".join([*lines, FOOT])


def packages() -> list[tuple[str, str, str]]:
    """Kind, name, and package with version of every entry that installed packages add. The reason follows the package
    where an entry cannot be used. Each entry is imported to check it.
    """
    from scenarios.plugins import GROUPS, load_plugin, plugins

    added = []
    for group, kind in zip(GROUPS, ("judge", "metric", "reward part"), strict=True):
        for plugin in plugins(group):
            about = f"{plugin.package} {plugin.version}"
            try:
                load_plugin(plugin, _entry_class(group))
            except ValueError as error:
                about += f", {hidden(str(error)).partition(' (' + group + ') ')[2]}"
            added.append((kind, plugin.name, about))
    return added


def _entry_class(group: str) -> type:
    """The class that an entry point of the group must name or return."""
    from lab.training.reward_parts import RewardEntry
    from metrics.entry import MetricEntry
    from metrics.judges.entry import JudgeEntry
    from scenarios import plugins

    return {plugins.JUDGES: JudgeEntry, plugins.METRICS: MetricEntry, plugins.REWARDS: RewardEntry}[group]


if __name__ == "__main__":
    sys.exit(main())
