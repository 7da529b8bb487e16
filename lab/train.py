"""Train a seat: `python -m lab.train scenarios/training/simulator_grpo.yaml [key=value ...]`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.commands import Parser, obeyed
from lab.run import LOG, aside, carried_out, unfinished

if TYPE_CHECKING:
    from lab.display import Watch
    from lab.store import RunStore
    from scenarios.recipe import Recipe

STOPPED = 1
TOLD = ("loss", "grad_norm", "learning_rate", "tokens", "tokens_learnt", "skipped", "seconds_play", "seconds_learn")  # by each step
TOLD_ONLINE = ("reward", "penalised", "lines", "unscored", "length", "kl", "entropy", "ratio", "ratio_max", "ratio_min")
EXAMINED = "examination"  # of a training's folder: a run an exam
EXAMPLES = """examples:
  python -m lab.train scenarios/training/simulator_grpo.yaml
  python -m lab.train scenarios/training/simulator_offline.yaml method=dpo tuning.learning_rate=1.0e-4
  python -m lab.train --resume runs/20260101T120000Z-simulator_grpo-1a2b
"""


def parser() -> Parser:
    out = Parser(prog="python -m lab.train", description="Train the user simulator or the assistant, and examine it.", epilog=EXAMPLES)
    out.add_argument("recipe", nargs="?", help="a training's YAML file; may be left out with --resume")
    out.add_argument("overrides", nargs="*", metavar="key=value", help="dotted keys of the training file")
    out.add_argument("--address", help="a Ray cluster (default: RAY_ADDRESS, else a private one here); none: no Ray at all")
    out.add_argument("--display", default="auto", choices=("auto", "rich", "plain", "none"), help="how the training is shown")
    out.add_argument("--resume", metavar="RUN", help="go on with a training's folder from its last checkpoint")
    out.add_argument("--runs", default="runs", metavar="DIR", help="where run folders are made (default: runs)")
    out.add_argument("--json", action="store_true", help="print the folder and the evaluation as one JSON object, and nothing else")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 trained, 1 trained until a tripwire stopped it, 2 refused or failed with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _train, arguments)


def _train(args: argparse.Namespace) -> int:
    from lab import cluster, corpus
    from lab.store import create, open_for_resume
    from scenarios.recipe import load_recipe, played

    if args.resume:
        if args.recipe:
            raise ValueError("--resume goes on with the training as it is; expected no recipe and no key=value beside it")
        recipe = _resumed(args.resume)
    elif args.recipe:
        recipe = load_recipe(args.recipe, args.overrides)
    else:
        raise ValueError("no training was named; expected a YAML file, such as scenarios/training/simulator_grpo.yaml, or --resume RUN")
    check(recipe)
    cluster.check(args.address, recipe.workers)
    scenario = played(recipe)
    if recipe.data:
        corpus.stock(recipe, scenario)
    store = open_for_resume(args.resume) if args.resume else create(
        args.runs, recipe.name, recipe.resolved_yaml(), recipe.seed, recipe.digest(),
        models={seat: scenario.seats[seat].model for seat in recipe.seats()})
    with store, aside(store.path / LOG) as (screen, errors):
        return _carry_out(args, recipe, store, screen, errors)


def check(recipe: Recipe) -> None:
    """Refuse, before a model is loaded, a training whose models or judges are not there, or whose exams cannot be played. ValueError."""
    from lab import wiring
    from lab.examination import exams
    from scenarios.recipe import played

    scenario = played(recipe)
    wiring.check_judges(scenario.measure.model_copy(update={"judge": [recipe.reward.judge]}))
    for one in [scenario, *(exam.scenario for exam in exams(recipe))]:
        wiring.check(one)


def numbers(recipe: Recipe) -> list[str]:
    """What each step of the training tells, as columns of training.parquet. Offline steps read dialogues that are there: no reward is
    theirs, and tripwires are heard at checkpoints only."""
    from lab.headline import MEASURES
    from lab.rewards import PARTS
    from scenarios.recipe import ONLINE

    if recipe.method not in ONLINE:
        return [*TOLD]
    parts = [f"reward_{name}" for name in PARTS if getattr(recipe.reward, name)]
    return [*TOLD_ONLINE, *parts, *(f"wire_{name}" for name, measure in MEASURES.items() if measure.group == "tripwires"), *TOLD]


def _resumed(folder: str) -> Recipe:
    """The stored recipe; the files that it names must be what they were."""
    from lab.store import read_manifest
    from scenarios.recipe import load_recipe, played

    digest = read_manifest(folder).get("digest")
    recipe = load_recipe(Path(folder) / "scenario.yaml")
    if recipe.digest() != digest:
        others = filter(None, (recipe.evaluation.scenario, *recipe.data, recipe.tuning.adapter))
        files = ", ".join([recipe.scenario, *played(recipe).personas, *others])
        raise ValueError(f"{folder} was begun with other files than {files} are now; expected them unchanged, or a new training without "
                         "--resume")
    return recipe


def _carry_out(args: argparse.Namespace, recipe: Recipe, store: RunStore, screen, errors) -> int:
    from rich.console import Console

    from lab.files import dumps
    from lab.monitor import conclude
    from lab.watching import choose, summary

    console, earlier = Console(file=screen), before(store)
    with choose("none" if args.json else args.display, console, recipe, str(store.path), earlier) as watch:
        status, reason, found = carried_out(lambda: perform(args, recipe, store, watch, earlier), store, watch.show, "checkpoint")
    if status != "finished":
        return unfinished("lab.train", "checkpoint", args, status, reason, console, errors, store.path)
    table, stopped = found
    if args.json:
        print(dumps({"run": str(store.path), "stopped": stopped, "evaluation": table.fill_nan(None).to_dicts()}).decode(), file=screen)
    elif args.display != "none":
        conclude(console, summary(table, stopped), store.path)
    return STOPPED if stopped else 0


def perform(args: argparse.Namespace, recipe: Recipe, store: RunStore, watch: Watch, earlier: Sequence[dict]):
    """Load, train, examine before and after; every event is stored first and shown then. `earlier`: step events up to the checkpoint that
    is gone on from. Gives the evaluation, and which tripwire stopped the training, in words ("" for none)."""
    from lab import wiring
    from lab.cluster import hosting
    from lab.examination import examine_all, exams
    from lab.room import check_memory
    from lab.report import write_report
    from lab.store import now, write_frame
    from lab.training import Training, latest, learner, steps_of
    from scenarios import personas as people
    from scenarios.recipe import played
    from scenarios.records import SEATS

    def tell(kind: str, **rest: object) -> None:
        watch.show(store.append({"event": kind, **rest}))

    scenario = played(recipe)
    rewarding = scenario.measure.model_copy(update={"judge": [recipe.reward.judge]})
    names = wiring.judge_engines(rewarding).union(*(wiring.engine_names(one) for one in [scenario, *(e.scenario for e in exams(recipe))]))
    tell("phase", phase="loading", detail=", ".join(sorted(names)))
    workers = recipe.workers * len(recipe.seats()) if recipe.workers > 1 else 0
    with (hosting(args.address, len(names), lambda detail: tell("recovered", detail=detail), workers) as make,
          contextlib.ExitStack() as running):
        engines = {name: make(name, recipe.dtype, recipe.device) for name in sorted(names)}
        check_memory(recipe, scenario, engines, people.cast(scenario))
        for exam in exams(recipe):
            for seat in SEATS:
                wiring.longest_view(exam.scenario, seat, engines, people.cast(exam.scenario))
        students = {seat: running.enter_context(contextlib.closing(learner(recipe, scenario, seat, len(names)))) for seat in recipe.seats()}
        judge = wiring.judges(rewarding, engines, recipe.device)[0]
        aids = wiring.aids(engines[wiring.engine_name(scenario.seats[recipe.seats()[0]])], recipe.device)
        training = Training(recipe, scenario, engines, students, judge, aids, store.path)
        first = 0
        if checkpoint := latest(store.path):
            training.restore(checkpoint)
            first = steps_of(checkpoint)
        told = next(iter(students.values()))
        store.update_manifest(device=str(told.device), dtype=told.dtype)
        tell("started", name=recipe.name, method=recipe.method, steps=recipe.max_steps, first=first)
        steps, stopped = list(earlier), ""
        tell("phase", phase="training", detail=recipe.method)
        with reporter(recipe.report_to, store.path) as report:
            for event in training.steps(first, steps):
                kept = store.append(event)
                if event["event"] == "step":
                    steps.append(event)
                    report(event)
                    write_frame(store.path / "training.parquet", _frame(steps))
                elif event["event"] == "stopped":
                    stopped = f"stopped after step {event['step']}: {event['reason']}"
                watch.show(kept)  # last: whoever is shown a step may end the training there
        store.update_manifest(stopped=stopped)
        training.save(store.path / "adapter", state=False)
        for coming, found in examine_all(recipe, engines, aids, store.path / EXAMINED):
            write_frame(store.path / "evaluation.parquet", found)
            if coming:
                tell("phase", phase="examining", detail=coming)
    store.update_manifest(status="finished", finished=now())  # which is what the report is to say
    write_report(store.path)
    return found, stopped


def before(store: RunStore) -> list[dict]:
    """The step events behind the last checkpoint, each step's last."""
    if not store.earlier:
        return []
    from lab.training import latest, steps_of

    checkpoint = latest(store.path)
    done = steps_of(checkpoint) if checkpoint else 0
    return list({event["step"]: event for event in store.earlier if event["event"] == "step" and event["step"] < done}.values())


def _frame(steps: Sequence[dict]):
    """training.parquet: a row a step, all its numbers; null where there is none, as in the events that a resumed training reads."""
    import polars as pl

    frame = pl.DataFrame([{key: value for key, value in step.items() if key not in ("event", "time", "samples")} for step in steps],
                         infer_schema_length=None, schema_overrides={"note": pl.String}).fill_nan(None)
    return frame.with_columns(pl.col(pl.Null).cast(pl.Float64))


@contextlib.contextmanager
def reporter(to: str, folder: Path) -> Iterator[Callable[[dict], None]]:
    """A function that tells a step's numbers to TensorBoard (below `folder`) or Weights & Biases. ValueError where it is not installed."""
    if to == "none":
        yield lambda event: None
        return
    try:
        if to == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(folder / "tensorboard"))
            add, close = writer.add_scalar, writer.close
        else:
            import wandb

            run = wandb.init(project="dialogue-lab", name=folder.name, dir=str(folder))
            add, close = (lambda name, value, step: run.log({name: value}, step=step)), run.finish
    except ImportError as error:
        raise ValueError(f"report_to {to!r}: {error.name or to} is not installed; expected pip install {to}, or report_to: none") from None

    def report(event: dict) -> None:
        for name, value in event.items():
            if name != "step" and isinstance(value, (int, float)) and value == value:
                add(name, value, event["step"])

    try:
        yield report
    finally:
        close()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
