"""Read personas of other formats: `python -m lab.personas FILE [--out people.yaml]`.

What is written is a persona file of the lab, playable as it is. Rows without a persona are left out and reported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.commands import Parser, obeyed
from lab.persona_files.reading import MOST, as_yaml, left_out_lines, read_people
from lab.persona_files.rows import FORMS
from lab.store.output import say

EXAMPLES = """examples:
  python -m lab.personas persona.jsonl --limit 50 --out people.yaml
  python -m lab.personas character.png --facts
  python -m lab.personas survey.csv --column biography --out people.yaml
  python -m lab.personas hf:proj-persona/PersonaHub/persona --limit 20 --out people.yaml

forms, recognised by their content: PersonaHub JSON lines, character cards (versions 1 to 3, JSON or PNG), TinyTroupe
agents, PersonaChat lists and text lines, CSV, TSV and parquet with a text column, the lab's YAML; plain or gzipped.
"""


def parser() -> Parser:
    out = Parser(prog="python -m lab.personas", description="Read personas of other formats.", epilog=EXAMPLES)
    out.add_argument("file", metavar="FILE", help="file of personas, or hf:owner/name[/config][:split]")
    out.add_argument("--form", choices=FORMS, help="format of the file (default: recognised by its content)")
    out.add_argument("--column", metavar="NAME", help="key or column that holds the text of a persona")
    out.add_argument("--limit", type=int, default=MOST, metavar="N", help=f"read N personas at most (default: {MOST})")
    out.add_argument("--facts", action="store_true", help="draft facts from the cards, for you to confirm or to strike")
    out.add_argument("--out", metavar="FILE", help="write the persona file here (default: stdout)")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 read, 2 refused with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _read, arguments)


def _read(args: argparse.Namespace) -> int:
    from lab.store.atomic_write import replace
    from scenarios.messages import hidden

    read = read_people(args.file, form=args.form, column=args.column, limit=args.limit)
    lines = [f"{args.file}: read as {read.form}, {len(read.people)} personas", *left_out_lines(read)]
    if args.facts:
        from lab.persona_files.drafting import with_drafts

        read, drafted = with_drafts(read)
        lines += drafted
    text = as_yaml(read, args.file, Path(args.out).parent if args.out else None)
    if args.out:
        replace(Path(args.out), text.encode())
    else:
        say(text, end="")
    for line in lines:
        say(hidden(line), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
