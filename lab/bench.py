"""Measure the engine against the notebook way on the same work: `python -m lab.bench [--quick]`.

The notebook way is transformers' `generate` with the history read again for every line, and one forward pass for every
option of a question. Each way runs in a separate process, one after the other, on the same weights, dtype and threads.
The machine's ceilings are measured too: the rates of a matrix product and of a memory read.

`--actors 1 2 4` measures 1, 2 and 4 engines in parallel Ray actors instead (see `lab.benchmark.actors`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.benchmark.engine import measure_engine, plot, print_figures
from lab.benchmark.work import SIZES, WAYS
from lab.commands import Parser, obeyed

EXAMPLES = """examples:
  python -m lab.bench --quick
  python -m lab.bench --json bench.json --plot bench.png
  python -m lab.bench --actors 1 2 4 --json actors.json
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.bench",
        description="Measure the engine's speed against transformers' generate.",
        epilog=EXAMPLES,
    )
    out.add_argument("--model", default="embedded")
    out.add_argument("--dtype", default="auto")
    out.add_argument("--device", default="auto")
    out.add_argument("--quick", action="store_true", help="measure smaller sizes, in under a minute")
    out.add_argument(
        "--actors",
        metavar="N",
        type=int,
        nargs="*",
        help="instead: tokens/s of N engine actors in parallel on this machine, against a model of it (default: 1 2 4)",
    )
    out.add_argument("--endpoint", help="also measure the dialogues on this OpenAI-compatible server")
    out.add_argument("--endpoint-model", help="name of the model on that server")
    out.add_argument("--json", metavar="FILE", help="write all figures to this file")
    out.add_argument("--plot", metavar="FILE", help="plot the cost per line against the line's index")
    out.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    return obeyed(parser(), _bench, arguments)


def _bench(args: argparse.Namespace) -> int:
    if args.worker:
        return _work(args)
    for file in filter(None, (args.json, args.plot)):
        if not Path(file).parent.is_dir():
            raise ValueError(f"{file}: there is no folder {Path(file).parent}; expected an existing folder")
    weights = args.model, args.dtype, args.device
    if args.actors is not None:
        from lab.benchmark import actors

        if args.endpoint or args.plot:
            raise ValueError(
                "--actors measures engine actors and nothing else; expected no "
                f"{'--endpoint' if args.endpoint else '--plot'}"
            )
        figures = actors.measure_actors(args.actors, *weights, quick=args.quick)
        show = actors.print_actor_figures
    else:
        figures = measure_engine(*weights, quick=args.quick, endpoint=args.endpoint, endpoint_model=args.endpoint_model)
        show = print_figures
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")
    if args.plot:
        plot(figures, Path(args.plot))
    show(figures)
    return 0


def _work(args: argparse.Namespace) -> int:
    from lab.benchmark import work

    sizes = SIZES["quick" if args.quick else "full"]
    served = {"endpoint": args.endpoint, "endpoint_model": args.endpoint_model}
    figures = work.measure_way(args.worker, sizes, args.model, args.dtype, args.device, **served)
    Path(args.json).write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
