"""Judge stored conversations: `python -m lab.score TRANSCRIPTS [TRANSCRIPTS ...] [key=value ...]`.

Nothing is generated, and the transcripts are only read: judgements, turns and metrics go to a new folder.
Conversations are numbered through all transcripts; a run that comes first keeps its numbers, seed and settings, so the
same judge says the same again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.commands import Parser, obeyed
from lab.transcripts import scoring

EXAMPLES = """examples:
  python -m lab.score chats.jsonl
  python -m lab.score runs/20260101T120000Z-long_dialogue-1a2b --judge nli,ledger
  python -m lab.score labelled.jsonl.gz --against labels --json calibration.json
  python -m lab.score runs/20260101T120000Z-long_dialogue-1a2b --labels labels.csv
  python -m lab.score chats.jsonl --judge llm measure.llm.endpoint=http://localhost:8000/v1 measure.llm.model=NAME
  python -m lab.score hf:allenai/WildChat-1M --limit 100
  python -m lab.score --resume runs/20260101T120000Z-score-chats-1a2b

transcripts: run folders, and files of the forms messages, sharegpt, lmsys, wildchat, arena, trl, tau2, inspect,
labelled and consistent-llms (docs/judges.md shows them), as JSON, JSON lines or parquet, plain or gzipped, and data
sets of the hub, hf:owner/name[/config][:split]. The system message before the first line is the assistant's persona,
where "personas" names none.
labels: CSV or JSON lines with conversation (from 0, or its id), turn (from 0), contradicts (true, false, or empty
where it is unknown) and optionally seat.
"""


def parser() -> Parser:
    out = Parser(prog="python -m lab.score", description="Judge conversations from files or runs.", epilog=EXAMPLES)
    about = "files, run folders, data sets; key=value sets a key of a scenario's measure; omit them with --resume"
    out.add_argument("transcripts", nargs="*", metavar="TRANSCRIPTS", help=about)
    out.add_argument("--resume", metavar="RUN", help="continue the scoring in this folder; what was judged stays")
    out.add_argument("--judge", metavar="NAME[,NAME]", help="one or several judges (default: combined)")
    out.add_argument("--form", metavar="NAME", help="form of the transcripts, see below (default: recognised)")
    out.add_argument("--metrics", metavar="NAME[,NAME]", help=f"which metrics (default: {scoring.DEFAULT_METRICS})")
    out.add_argument(
        "--against", choices=("labels",), help="print each judge's agreement with the labels; draw a reliability plot"
    )
    out.add_argument(
        "--labels",
        metavar="FILE",
        help="human labels, in place of those in the transcripts; adds the consistency estimated from judge and labels",
    )
    out.add_argument("--json", metavar="FILE", help="write the figures to this file: {judge: {metric: {...}}}")
    out.add_argument(
        "--plot",
        metavar="FILE.png",
        help="write the reliability plot to this file (default: plots/reliability.png in the results)",
    )
    out.add_argument("--out", metavar="DIR", help="new folder for the results (default: a folder under --runs)")
    out.add_argument("--runs", default="runs", metavar="DIR", help="parent folder of new results (default: runs)")
    out.add_argument("--limit", type=int, metavar="N", help="score the first N conversations only")
    out.add_argument("--device", default="auto", help="device of the judges' models: auto (default), cpu, cuda, ...")
    out.add_argument("--dtype", default="auto", choices=scoring.DTYPES, help="their dtype (default: auto)")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 scored, 2 refused or failed with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _score, arguments)


def _score(args: argparse.Namespace) -> int:
    from lab.dialogue import judges
    from lab.live.run_monitor import closing_notes, conclude, run_summary
    from lab.store.console import Console
    from lab.store.run_store import open_for_resume

    scoring.check_outputs(args.json, args.plot, bool(args.against))
    task = _resumed(args) if args.resume else _begun(args)
    judges.check_judges(task.measure)
    console = Console(width=None if sys.stdout.isatty() else scoring.PIPED)
    for sentence in scoring.sources_read(task):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    with open_for_resume(args.resume) if args.resume else scoring.open_scores(task, args.runs, args.out) as store:
        frames = scoring.judge_into(task, store, device=args.device, dtype=args.dtype)
    conclude(console, run_summary(frames, store.manifest), store.path, closing_notes(store.manifest))
    plot = Path(args.plot or store.path / "plots" / "reliability.png") if args.against else None
    figures = scoring.compare_with_labels(task, frames, console, plot)
    if args.json:
        scoring.write_json(args.json, figures)
    return 0


def _begun(args: argparse.Namespace) -> scoring.Task:
    from lab.transcripts.reading import read_transcripts

    paths, overrides = scoring.paths_and_overrides(args.transcripts)
    if not paths:
        raise ValueError("no transcripts were named; expected files of conversations or run folders")
    return scoring.read_task(
        [read_transcripts(path, args.form, args.limit) for path in paths],
        judge=args.judge,
        metrics=args.metrics or scoring.DEFAULT_METRICS,
        overrides=overrides,
        labels=args.labels,
        limit=args.limit,
        against_labels=bool(args.against),
    )


def _resumed(args: argparse.Namespace) -> scoring.Task:
    from lab.transcripts.continued import stored_task

    given = [args.judge, args.form, args.metrics, args.labels, args.limit, args.out, *args.transcripts]
    if beside := [str(value) for value in given if value is not None]:
        raise ValueError(f"--resume continues the scoring as it is; expected no {beside[0]!r} beside it")
    return stored_task(args.resume, against_labels=bool(args.against))


if __name__ == "__main__":
    sys.exit(main())
