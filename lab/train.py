"""Train a seat: `python -m lab.train scenarios/training/simulator_grpo.yaml [key=value ...]`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from lab.commands import Parser, obeyed
from lab.training.runner import check_training, open_training, run_training, stored_recipe

EXAMPLES = """examples:
  python -m lab.train scenarios/training/simulator_grpo.yaml
  python -m lab.train scenarios/training/simulator_offline.yaml method=dpo tuning.learning_rate=1.0e-4
  python -m lab.train --resume runs/20260101T120000Z-simulator_grpo-1a2b
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.train",
        description="Train the user simulator or the assistant, and evaluate it.",
        epilog=EXAMPLES,
    )
    out.add_argument("recipe", nargs="?", help="YAML file of a training; omit it with --resume")
    out.add_argument("overrides", nargs="*", metavar="key=value", help="dotted keys of the training file")
    out.add_argument(
        "--address",
        help="address of a Ray cluster (default: RAY_ADDRESS, else a private local cluster); none: do without Ray",
    )
    out.add_argument(
        "--display", default="auto", choices=("auto", "rich", "plain", "none"), help="how the training is shown"
    )
    out.add_argument("--resume", metavar="RUN", help="resume the training in this folder from its last checkpoint")
    out.add_argument("--runs", default="runs", metavar="DIR", help="parent folder of new runs (default: runs)")
    out.add_argument(
        "--json", action="store_true", help="print only one JSON object: the run's path and its evaluation"
    )
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 trained, 1 trained until a tripwire stopped it, 2 refused or failed with a sentence on stderr, 130
    interrupted.
    """
    return obeyed(parser(), _train, arguments)


def _train(args: argparse.Namespace) -> int:
    from lab.dialogue import cluster
    from lab.training import dataset
    from scenarios.jobs.recipe import played
    from scenarios.jobs.training import load_recipe

    if args.resume:
        if args.recipe:
            raise ValueError("--resume continues the training as it is; expected no recipe and no key=value beside it")
        recipe = stored_recipe(args.resume)
    elif args.recipe:
        recipe = load_recipe(args.recipe, args.overrides)
    else:
        raise ValueError(
            "no training was named; expected a YAML file, such as scenarios/training/simulator_grpo.yaml, or --resume "
            "RUN"
        )
    check_training(recipe)
    cluster.check_cluster(args.address, recipe.workers)
    scenario = played(recipe)
    if recipe.data:
        dataset.stock(recipe, scenario)
    with open_training(recipe, args.runs, args.resume) as store:
        return run_training(recipe, store, address=args.address, display=args.display, as_json=args.json)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
