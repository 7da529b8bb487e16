"""`lab.play`, `lab.fit`, `lab.judge` and `lab.compare`: what the commands do, called from a script or a notebook.

Each takes its input by path, by the name of a built-in file, or as objects, and returns results in place of an exit
code. What the command would print as an error is raised as ValueError. Ctrl-C, or a notebook's stop button, ends the
work cleanly and is raised as KeyboardInterrupt. The folders are those of the commands, so that `python -m lab.watch`,
`lab.report` and `--resume` accept them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

from lab.api.inputs import PATHS, Conversation, Overrides, PathLike, file_of, items_of, scenario_of, sources_of
from lab.store.session import LOG, apart
from scenarios.input_files import home_expanded
from scenarios.suggestions import nearest
from scenarios.yaml_files import check_type

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from lab.results.load import Run
    from scenarios.jobs.recipe import Recipe
    from scenarios.records import Persona
    from scenarios.scenario import Scenario

PROGRESS = ("auto", "rich", "plain", "none")


def load_scenario(scenario: PathLike, overrides: Overrides = ()) -> Scenario:
    """The checked scenario of a YAML file, or of a built-in one by name ("long_dialogue").

    Its fields are the keys of the file: `scenario.turns`, `scenario.seats.user.model`. `overrides` are values by dotted
    key, such as `{"seats.user.temperature": 0.5, "turns": 12}`, or a list of `key=value`. Raises ValueError with file
    and line (or the override), the key, its value and what was expected.
    """
    return scenario_of(scenario, overrides)


def play(
    scenario: PathLike | Scenario,
    overrides: Overrides = (),
    *,
    runs: PathLike = "runs",
    address: str | None = None,
    progress: str = "auto",
) -> Run:
    """Plays a scenario (or a study), measures it and writes its report, as `python -m lab.run` does.

    Returns the run, with `turns`, `judgements` and `metrics` as polars frames; of a study, with `answers` and
    `finding`.

    - `scenario`: the path of a YAML file, the name of a built-in scenario or study, or the result of `load_scenario`.
    - `overrides`: as in `load_scenario`.
    - `runs`: the folder below which the run's folder is made.
    - `address`: that of a Ray cluster; None for RAY_ADDRESS, or else a private Ray on this machine; "none" for this
      process, without Ray.
    - `progress`: auto (a live view in a terminal, lines of text elsewhere), rich, plain or none.

    Raises ValueError, one sentence, where the scenario is not valid or the run fails; what was played stays in the
    folder.
    """
    from lab.dialogue import cluster, wiring
    from lab.results.load import load_run
    from lab.runs.runner import carry_out_run, new_store
    from scenarios.jobs.study import is_study

    _check_place(runs, address, progress)
    if isinstance(scenario, str | os.PathLike):
        scenario = file_of(scenario, ["", "studies"], "scenario")
        if scenario.is_file() and is_study(scenario):
            return _play_study(scenario, overrides, runs, address, progress)
    checked = scenario_of(scenario, overrides)
    wiring.check_scenario(checked)
    cluster.check_cluster(address)
    with new_store(_folder(runs), checked) as store:
        with apart(store.path / LOG) as (screen, _):
            ended = carry_out_run(checked, store, _console(screen), address=address, display=progress)
        _raise_unless_finished(*ended, store.path)
    return load_run(store.path)


def _play_study(file: Path, overrides: Overrides, runs: PathLike, address: str | None, progress: str) -> Run:
    from lab.dialogue import cluster
    from lab.results.load import load_run
    from lab.studies.runner import carry_out_study, check_study, load_planned, open_study

    loaded = load_planned(file, items_of(overrides))
    check_study(loaded)
    cluster.check_cluster(address)
    with open_study(loaded, _folder(runs)) as store:
        with apart(store.path / LOG) as (screen, _):
            status, reason, _ = carry_out_study(loaded, store, _console(screen), address=address, display=progress)
        _raise_unless_finished(status, reason, store.path)
    return load_run(store.path)


def fit(
    recipe: PathLike | Recipe,
    overrides: Overrides = (),
    *,
    runs: PathLike = "runs",
    address: str | None = None,
    progress: str = "auto",
) -> Run:
    """Carries out a training and evaluates it, as `python -m lab.train` does.

    Returns the run, with `training` (one row per step) and `evaluation` as polars frames; the adapter is in the folder
    `adapter` below `run.path`. `run.manifest["stopped"]` names the tripwire that stopped the training, "" where none
    did.

    `recipe` is the path of a training's YAML file, the name of a built-in one ("quick"), or a loaded recipe (without
    overrides). `overrides`, `runs`, `address` and `progress` are as in `play`. Raises ValueError, one sentence, where
    the training is not valid or fails; `python -m lab.train --resume` continues it from its last checkpoint.
    """
    from lab.dialogue import cluster
    from lab.results.load import load_run
    from lab.training import dataset
    from lab.training.runner import carry_out_training, check_training, open_training
    from scenarios.jobs.recipe import Recipe, played
    from scenarios.jobs.training import load_recipe

    _check_place(runs, address, progress)
    items = items_of(overrides)
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(file_of(recipe, ["training"], "training"), items)
    elif items:
        raise ValueError(f"override {items[0]!r} beside a loaded recipe; expected a file with it, or no override")
    check_training(recipe)
    cluster.check_cluster(address, recipe.workers)
    if recipe.data:
        dataset.stock(recipe, played(recipe))
    with open_training(recipe, _folder(runs)) as store:
        with apart(store.path / LOG) as (screen, _):
            status, reason, _ = carry_out_training(recipe, store, _console(screen), address=address, display=progress)
        _raise_unless_finished(status, reason, store.path)
    return load_run(store.path)


def judge(
    transcripts: PathLike | Conversation | Sequence[PathLike] | Sequence[Conversation],
    *,
    form: str | None = None,
    judge: str | Sequence[str] | None = None,
    metrics: str | Sequence[str] = ("prompt_to_line", "line_to_line", "contradictions"),
    overrides: Overrides = (),
    labels: PathLike | None = None,
    limit: int | None = None,
    runs: PathLike = "runs",
    device: str = "auto",
    dtype: str = "auto",
    progress: str = "auto",
) -> Run:
    """Judges existing conversations, as `python -m lab.score` does.

    Returns the scores, with `turns`, `judgements` and `metrics` as polars frames.

    - `transcripts`: one or several paths of files or run folders, runs, data sets of the Hugging Face hub
      ("hf:owner/name[:split]"), or conversations; a conversation is a list of
      `{"role": ..., "content": ...}`, or a mapping `{"messages": [...], "personas": {"user": ..., "assistant": ...}}`.
      Without personas, the system message before the first line is the assistant's.
    - `form`: the form of the files ("sharegpt", "trl", ...), in place of recognising it by the keys.
    - `judge`: one name or several; None for `combined`.
    - `metrics`: what is judged.
    - `overrides`: keys of a scenario's `measure`, such as `{"measure.llm.model": "NAME"}`.
    - `labels`: a file of people's labels.
    - `limit`: only the first conversations, as many as it says; of a data set 1000 where it is None.
    - `device`, `dtype`: those of the judges' models.
    - `runs`, `progress`: as in `play`.

    Raises ValueError, one sentence, where nothing can be read or a judge cannot be loaded.
    """
    from lab.dialogue import judges
    from lab.results.load import load_run
    from lab.transcripts import scoring

    _check_place(runs, None, progress)
    check_type("labels", labels, (*PATHS, NoneType), "the path of a file, or None")
    check_type("form", form, (str, NoneType), "the name of a form, or None")
    check_type("device", device, str, "auto, cpu, cuda, ...")
    _check_choice("dtype", dtype, scoring.DTYPES)
    names = {"judge": _listed("judge", judge) if judge else None, "metrics": _listed("metrics", metrics)}
    limit = None if limit is None else _whole("limit", limit)
    task = scoring.read_task(
        sources_of(transcripts, form, limit),
        **names,
        overrides=items_of(overrides),
        labels=None if labels is None else os.fspath(labels),
        limit=limit,
    )
    judges.check_judges(task.measure)
    with scoring.open_scores(task, _folder(runs)) as store:
        scoring.judge_into(task, store, device=device, dtype=dtype, apart=apart, progress=progress)
    return load_run(store.path)


def read_personas(
    path: PathLike, *, form: str | None = None, column: str | None = None, limit: int = 1000
) -> tuple[Persona, ...]:
    """The first `limit` personas of a file, or of a data set of the Hugging Face hub ("hf:owner/name[:split]").

    Files are PersonaHub's JSON lines, character cards (JSON or PNG), TinyTroupe agents, PersonaChat lists, tables (CSV,
    TSV, parquet) with a text column, and the lab's YAML; `form` names one in place of recognising it, and `column` the
    key or the column that holds the text. Draft facts are left out. `python -m lab.personas` writes a persona file of
    them. Raises ValueError, one sentence, where there is no persona.
    """
    from lab.persona_files.reading import read_people
    from scenarios.personas import find_persona, load_personas

    check_type("path", path, PATHS, "the path of a file, or hf:owner/name")
    check_type("column", column, (str, NoneType), "the name of a column, or None")
    limit = _whole("limit", limit)
    read = read_people(path, form=form, column=column, limit=limit)
    if read.form == "yaml":
        return load_personas(home_expanded(path))[:limit]
    return tuple(find_persona(person, []) for person in read.people)


def compare(a: PathLike, b: PathLike, *, out: PathLike | None = None) -> pl.DataFrame:
    """The differences between two runs of one scenario: one row per measure, judge and seat.

    Columns: `a`, `b`, `value` (b - a) with its interval `low` to `high`, `n` (conversations) and `detectable` (the
    smallest true difference that runs of this size detect). Conversations with equal number, seed and cast are compared
    in pairs.

    `a` and `b` are folders of runs or scores, or results of `play`, `judge` and `load_run`. `out` is a folder for the
    report of `python -m lab.report A B`. Raises ValueError where one is no run or was not measured, or where they have
    no measure in common.
    """
    import polars as pl

    from lab.reports.comparison import compare_runs as differences
    from lab.reports.comparison import read_measured
    from lab.reports.write import write_comparison

    folders = [_folder(run, name) for name, run in (("a", a), ("b", b))]
    check_type("out", out, (*PATHS, NoneType), "the path of a folder, or None")
    difference = differences(*map(read_measured, folders))
    if out is not None:
        write_comparison(folders, Path(out))
    return pl.DataFrame(difference.rows, infer_schema_length=None)


def _listed(argument: str, names: str | Sequence[str]) -> str:
    """The names, separated by commas."""
    check_type(argument, names, (str, Sequence), "a name, or a list of names")
    given = [names] if isinstance(names, str) else list(names)
    for name in given:
        check_type(argument, name, str, "a name, or a list of names")
    return ",".join(given)


def _folder(path: PathLike, argument: str = "runs") -> Path:
    check_type(argument, path, PATHS, "the path of a folder")
    return home_expanded(path)


def _check_place(runs: PathLike, address: str | None, progress: str) -> None:
    """Raises ValueError where one of the arguments that several functions share is not valid."""
    _folder(runs)
    check_type("address", address, (str, NoneType), "the address of a Ray cluster, 'none' or None")
    _check_choice("progress", progress, PROGRESS)


def _whole(argument: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):  # numpy's whole numbers are integral too
        raise ValueError(f"{argument} is {value!r}; expected a whole number")
    return int(value)


def _check_choice(argument: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{argument} is {value!r}{nearest(value, known)}")


def _console(screen) -> Console:
    """A console that prints lines of text where `screen` is no terminal, in notebooks too."""
    from lab.store.console import Console

    return Console(file=screen, force_jupyter=False)


def _raise_unless_finished(status: str, reason: str | None, folder: Path) -> None:
    if status == "interrupted":
        raise KeyboardInterrupt(f"{folder}: {reason}")
    if status != "finished":
        raise ValueError(reason)
