"""What the command lines share: a parser that names the nearest word it knows, and the list of the commands that are there."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

PROG = "python -m lab."


class Parser(argparse.ArgumentParser):
    """argparse's own, but a mistake is one sentence with the nearest option or choice, and the epilog stands as it is written."""

    def __init__(self, **how) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter} | how)

    def error(self, message: str) -> None:
        from scenarios.reading import nearest

        head, _, words = message.partition("unrecognized arguments: ")
        if words and not head and words.startswith("-"):
            word = words.split()[0].partition("=")[0]
            message = f"{word} is no option{nearest(word, [name for name in self._option_string_actions if name.startswith('--')])}"
        elif message.startswith("the following arguments are required"):
            message += f"; {self.prog} --help shows examples"
        self.exit(2, f"{self.prog.removeprefix('python -m ')}: {message}\n")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        from scenarios.reading import nearest

        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"is {value!r}{nearest(value, action.choices)}")


def commands() -> dict[str, str]:
    """What `python -m lab.NAME` does, in the words of its own parser, by name. The sources tell; nothing is imported."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if f'prog="{PROG}{path.stem}"' in source:
            found[path.stem] = _description(ast.parse(source), PROG + path.stem)
    return found


def _description(tree: ast.Module, prog: str) -> str:
    """Of the parser of that name; "" where its description is no plain text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            told = {one.arg: one.value.value for one in node.keywords if isinstance(one.value, ast.Constant)}
            if told.get("prog") == prog:
                return told.get("description", "")
    return ""
