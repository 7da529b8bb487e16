"""The same work done the notebook way and by the engine, measured in one run: `python -m lab.bench [--quick]`.

The notebook way is transformers' `generate` with the history read again for every line, and one forward pass for every
question's option. Each way runs in a process of its own, one after the other, on the same weights, dtype and threads.
Ceilings are measured too: a matrix product's rate and a memory read's, so that a figure also says how far it could go.

`--actors 1 2 4` measures engines in Ray actors instead, so many side by side (see `lab.benchmark.actors`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.benchmark.engine import measure, plot, print_figures
from lab.benchmark.work import SIZES, WAYS
from lab.commands import Parser, obeyed

EXAMPLES = """examples:
  python -m lab.bench --quick
  python -m lab.bench --json bench.json --plot bench.png
  python -m lab.bench --actors 1 2 4 --json actors.json
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.bench", description="Measure the engine against transformers' generate.", epilog=EXAMPLES
    )
    out.add_argument("--model", default="embedded")
    out.add_argument("--dtype", default="auto")
    out.add_argument("--device", default="auto")
    out.add_argument("--quick", action="store_true", help="smaller sizes, under a minute")
    out.add_argument(
        "--actors",
        metavar="N",
        type=int,
        nargs="*",
        help="instead: tokens/s of so many engine actors on this machine, side by side, beside a model's (1 2 4)",
    )
    out.add_argument("--endpoint", help="an OpenAI-compatible server to play the dialogues too")
    out.add_argument("--endpoint-model", help="the model's name there")
    out.add_argument("--json", metavar="FILE", help="write every figure")
    out.add_argument("--plot", metavar="FILE", help="draw cost per line against the line's index")
    out.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    return obeyed(parser(), _bench, arguments)


def _bench(args: argparse.Namespace) -> int:
    if args.worker:
        return _work(args)
    for file in filter(None, (args.json, args.plot)):
        if not Path(file).parent.is_dir():
            raise ValueError(
                f"{file}: there is no folder {Path(file).parent}; expected one that is there to write into"
            )
    weights = args.model, args.dtype, args.device
    if args.actors is not None:
        from lab.benchmark import actors

        if args.endpoint or args.plot:
            raise ValueError(
                "--actors measures engine actors and nothing else; expected no "
                f"{'--endpoint' if args.endpoint else '--plot'}"
            )
        figures = actors.measure(args.actors, *weights, quick=args.quick)
        tell = actors.tell
    else:
        figures = measure(*weights, quick=args.quick, endpoint=args.endpoint, endpoint_model=args.endpoint_model)
        tell = print_figures
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")
    if args.plot:
        plot(figures, Path(args.plot))
    tell(figures)
    return 0


def _work(args: argparse.Namespace) -> int:
    from lab.benchmark import work

    sizes = SIZES["quick" if args.quick else "full"]
    served = {"endpoint": args.endpoint, "endpoint_model": args.endpoint_model}
    figures = work.measure(args.worker, sizes, args.model, args.dtype, args.device, **served)
    Path(args.json).write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
