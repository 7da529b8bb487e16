"""Write a run in other programs' formats: `python -m lab.export RUN --format messages|trl|csv [--out FILE]`.

messages: JSON, one conversation per line: `messages` ({role, content}: the lines of `--seat` have the role assistant,
    after that seat's system message), `seats` (the seat of each role), `personas` (the card of each role) and `given`
    (the turns whose text the scenario gave). `lab.score` and `lab.train` read it back unchanged.
trl: JSON, one row per line of dialogue. From a run: `prompt` (the seat's view before the line) and `completion`, both
    as messages, and with `--judge` also `label`, true where that judge finds no contradiction of the persona. From a
    training that kept its dialogues: `prompt`, `chosen` and `rejected` (the best and the worst line sampled at one
    place), as text in the model's template.
csv: one row per line of dialogue. For each judge: whether the line contradicts the persona, with which p, which earlier
    turns it contradicts, and why it is unscored. An apostrophe precedes what a spreadsheet would read as a formula.

No format holds the directions that a node gave a seat: a run stores what was said.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lab.commands import Parser, obeyed
from lab.results.formats import FORMATS, as_rows, completions, csv_lines, json_lines, messages, preferences, with_cards
from lab.store.output import say
from scenarios.messages import clean_lines, escaped
from scenarios.records import SEATS

EXAMPLES = """examples:
  python -m lab.export runs/20260101T120000Z-long_dialogue-1a2b --format messages --out chats.jsonl
  python -m lab.export RUN --format messages --seat user --out simulator.jsonl    # to train a user simulator on
  python -m lab.export RUN --format trl --seat user --judge ledger --out kto.jsonl
  python -m lab.export TRAINING --format trl --out dpo.jsonl
  python -m lab.export RUN --format csv | head
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.export",
        description="Write a run's conversations as chat JSONL, as rows for TRL or as CSV.",
        epilog=EXAMPLES,
    )
    out.add_argument(
        "run",
        help="folder of a run or of lab.score's results; with --format trl also of a training that kept its dialogues",
    )
    out.add_argument(
        "--format", choices=FORMATS, required=True, help="chat JSONL, JSONL with TRL's column names, or CSV"
    )
    out.add_argument(
        "--seat",
        choices=SEATS,
        help="seat whose lines get the role assistant (default: assistant; of a training: the trained seat); csv: "
        "write this seat's lines only",
    )
    out.add_argument(
        "--judge", metavar="NAME", help="trl: label each line with this judge's verdict, and omit unscored lines"
    )
    out.add_argument("--out", metavar="FILE", help="output file, written completely or not at all (default: stdout)")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 written, 2 refused with a sentence on stderr, 130 interrupted or the reader of the output closed
    it.
    """
    return obeyed(parser(), _export, arguments)


def _export(args: argparse.Namespace) -> int:
    from lab.results.load import TRAINING, load_run

    if args.judge and args.format != "trl":
        raise ValueError(f"--judge labels the rows of --format trl, not of {args.format}; expected none")
    run, counts = load_run(args.run), Counter()
    if run.kind == TRAINING:
        if args.format != "trl" or args.judge:
            raise ValueError(
                f"{run.path} is a training, whose dialogues are token ids with rewards; expected --format trl without "
                "--judge, or a run"
            )
        parts = json_lines(preferences(run.path, args.seat), counts)
    elif args.format == "csv":
        parts = csv_lines(as_rows(run, args.seat), counts)
    else:
        seat = args.seat or "assistant"
        rows = (
            (messages(talk, seat, system) for talk, system in with_cards(run, seat))
            if args.format == "messages"
            else completions(run, seat, args.judge)
        )
        parts = json_lines(rows, counts)
    _write(parts, args.out, clean_lines if args.format == "csv" else escaped)
    left_out = f", {counts['left out']} lines that {args.judge} could not score left out" if args.judge else ""
    say(f"{counts['rows']} rows{left_out}", file=sys.stderr)
    return 0


def _write(parts: Iterator[bytes], out: str | None, shown: Callable[[str], str]) -> None:
    """Writes all parts into the file, or nothing; without a file, to stdout part by part, each as `shown` makes it."""
    from lab.store.atomic_write import StoreError, replace_in_parts

    if out is None:
        sys.stdout.flush()
        for part in parts:
            sys.stdout.buffer.write(shown(part.decode()).encode())
        sys.stdout.buffer.flush()
        return
    try:
        replace_in_parts(Path(out), parts)
    except StoreError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.__cause__
        raise ValueError(f"cannot write {out} ({reason}); expected a file in a folder that can be written") from None


if __name__ == "__main__":
    sys.exit(main())
