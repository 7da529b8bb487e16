"""Shared by all commands: a parser that suggests the nearest known word, the exit codes, and the list of commands."""

from __future__ import annotations

import argparse
import ast
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lab.store.output import say
from lab.store.session import INTERRUPTED
from scenarios.messages import clean_lines, hidden

PROG = "python -m lab."
PACKAGE = "dialogue-lab"


def version() -> str:
    """The lab's version: the installed package's, else that of pyproject.toml beside the sources."""
    import tomllib
    from importlib import metadata

    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        file = Path(__file__).parents[1] / "pyproject.toml"
        return tomllib.loads(file.read_text(encoding="utf-8"))["project"]["version"]


class _Version(argparse.Action):
    """Prints the version, looked up only now, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        say(f"{PACKAGE} {version()}")
        parser.exit()


class Parser(argparse.ArgumentParser):
    """An argparse parser that reports a mistake in one sentence with the nearest option or choice, and prints the
    epilog as it is written.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **how})
        self.add_argument(
            "--version", action=_Version, nargs=0, dest=argparse.SUPPRESS, help="show the version and exit"
        )

    def error(self, message: str) -> NoReturn:
        from scenarios.suggestions import nearest

        head, _, words = message.partition("unrecognized arguments: ")
        if words and not head and words.startswith("-"):
            word = words.split()[0].partition("=")[0]
            message = (
                f"{word} is no "
                f"option{nearest(word, [name for name in self._option_string_actions if name.startswith('--')])}"
            )
        elif message.startswith("the following arguments are required"):
            message += f"; {self.prog} --help shows examples"
        self.exit(2, clean_lines(f"{self.prog.removeprefix('python -m ')}: {message}\n"))

    def _check_value(self, action: argparse.Action, value: object) -> None:
        from scenarios.suggestions import nearest

        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"is {value!r}{nearest(value, action.choices)}")


def obeyed(parser: Parser, work: Callable[[argparse.Namespace], int], arguments: Sequence[str] | None = None) -> int:
    """Parses the arguments and calls `work` with them. Exit code: that of `work`; 2, with a sentence on stderr, for a
    ValueError; 130 where it was interrupted (SIGTERM ends it as cleanly as Ctrl-C does) or the reader of its output
    closed the pipe.
    """
    args = parser.parse_intermixed_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work(args)
    except ValueError as error:
        say(f"{parser.prog.removeprefix('python -m ')}: {hidden(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except (
        BrokenPipeError,
        SystemExit,
    ):
        # the reader of the output closed the pipe (rich then raises SystemExit): the rest is discarded
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return INTERRUPTED


def commands() -> dict[str, str]:
    """The description of each command's parser, by the command's name. It is read from the sources; nothing is
    imported.
    """
    descriptions = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if f'prog="{PROG}{path.stem}"' in source:
            descriptions[path.stem] = _description(ast.parse(source), PROG + path.stem)
    return descriptions


def _description(tree: ast.Module, prog: str) -> str:
    """The description of the parser with that `prog`; "" where it is not a plain string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            constants = {
                keyword.arg: keyword.value.value for keyword in node.keywords if isinstance(keyword.value, ast.Constant)
            }
            if constants.get("prog") == prog:
                return str(constants.get("description", ""))
    return ""
