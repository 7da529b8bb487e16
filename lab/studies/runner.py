"""Carries out a study: checks its file, asks the model, stores the finding and writes its report. `lab.run` plays
it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import create_model

import metrics.studies
from lab.store.finding import FINDING
from lab.store.output import say, say_json
from lab.store.run_store import RunStore
from lab.store.session import LOG, aside, carried_out, unfinished
from lab.training.runner import check_training
from metrics.entry import MISSING
from metrics.stats.intervals import plain
from metrics.studies.protocol import Finding
from metrics.studies.verdict import control_evidence, control_states, study_verdict
from scenarios.fields import Strict
from scenarios.jobs.recipe import Recipe
from scenarios.jobs.study import Study, load_stimuli, load_study, study_named
from scenarios.jobs.sweep import BASES as PLAYED
from scenarios.scenario import Scenario

if TYPE_CHECKING:
    from rich.console import Console

    from lab.live.display import Onlooker


ANSWERS = "answers.parquet"
UNKNOWN = re.compile(r"(?<![\w+-])[+-]?nan%?(?!\w)")  # a number of a reading that is not known


@dataclass(frozen=True)
class Loaded:
    """A study with its module and stimuli.

    `asked` estimates, by arm, the questions, lines of a run, or steps and conditions of a training. `planned` holds its
    runs and trainings; `questions` counts the questions of all arms.
    """

    study: Study
    module: ModuleType
    stimuli: Strict
    asked: Mapping[str, int]
    planned: Sequence[Scenario | Recipe] = ()
    questions: int = 1


def study_names() -> list[str]:
    """The names of the studies in `metrics.studies`, sorted."""
    return sorted(
        {module.name for module in pkgutil.iter_modules(metrics.studies.__path__)} - {*metrics.studies.SHARED}
    )


def load_planned(path: str | Path, overrides: list[str]) -> Loaded:
    """The study of a file with overrides. Raises ScenarioError with file, line and key, and ValueError like
    `planned`.
    """
    module = _module(study_named(path, study_names()))
    return planned(load_study(path, overrides, size_settings(module)))


def planned(study: Study) -> Loaded:
    """The study with its stimuli, and with its questions, runs and trainings counted on a respondent without a model.

    Raises ValueError where the stimuli hold less than its size asks for, or an arm cannot be planned.
    """
    from lab.studies.dry_run import Counting

    module = _module(study.study)
    stimuli, counting = load_stimuli(study, module.Stimuli), Counting(study)
    try:
        module.study(counting, stimuli, study.seed, **study.numbers())
    except (
        KeyError,
        IndexError,
    ) as error:
        # a size that asks for more, or for others, than the stimuli hold; a text with braces of its own
        raise ValueError(
            f"{study.name}: its stimuli ({study.stimuli}) do not hold what size {study.size} asks for "
            f"({type(error).__name__}: {error}); expected names, numbers and {{...}} that are there"
        ) from None
    return Loaded(study, module, stimuli, dict(counting.asked), counting.planned, counting.questions)


BASES = {**PLAYED, "study": lambda path, overrides: load_planned(path, list(overrides)).study}  # what a sweep may be of


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"metrics.studies.{name}")


def size_settings(module: ModuleType) -> type[Strict]:
    """A pydantic model of a size of the study: the keyword arguments of its `study`, with their types and ranges."""
    hints = get_type_hints(module.study, include_extras=True)
    names = [
        name
        for name, parameter in inspect.signature(module.study).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    fields: dict[str, Any] = {name: (hints[name], ...) for name in names}
    return create_model("Numbers", __base__=Strict, **fields)


def stored_study(run: str | Path) -> Loaded:
    """The study in the folder `run`. Raises ValueError where it is none, or its stimuli have changed since."""
    from lab.store.run_store import read_manifest

    loaded = load_planned(Path(run) / "scenario.yaml", [])
    if loaded.study.digest() != read_manifest(run).get("digest"):
        raise ValueError(
            f"{run} was begun with other stimuli than {loaded.study.stimuli} holds now; expected them unchanged, or a "
            "new run without --resume"
        )
    return loaded


def check_study(loaded: Loaded) -> None:
    """Raises ValueError where the model of the study, or of a run or training that it plans, is missing; loads no
    weights.
    """
    from lab.dialogue import seats

    seats.check_respondent(loaded.study)
    for arm in loaded.planned:
        checked(arm)


def print_study_plan(loaded: Loaded) -> None:
    """Prints the claim and the estimated questions of each arm."""
    unit = "lines or steps" if loaded.planned else "questions"
    say(f"{loaded.study.name}: {loaded.study.claim}")
    say("\n".join(f"  {arm}: {count} {unit}" for arm, count in loaded.asked.items()))
    say("The configuration is valid. No model was loaded.")


def open_study(loaded: Loaded, runs: str | Path, resume: str | Path | None = None) -> RunStore:
    """The folder `resume`, opened again, or else a new folder below `runs`.

    Raises StoreError where it cannot be written, ValueError where `resume` cannot be opened.
    """
    from lab.store.run_store import create, open_for_resume

    if resume:
        return open_for_resume(resume)
    study = loaded.study
    models = {"assistant": study.seats.assistant.model}
    return create(runs, study.name, study.resolved_yaml(), study.seed, study.digest(), models=models)


def run_study(
    loaded: Loaded, store: RunStore, *, address: str | None, display: str = "auto", as_json: bool = False
) -> int:
    """Asks what `store.earlier` does not hold yet, and prints the finding.

    Returns the exit code: 0 played, 2 failed (with the reason on stderr), 130 interrupted.

    - `address`: as of `lab.dialogue.cluster.hosting`.
    - `display`: auto, rich, plain or none.
    - `as_json`: print only the folder and finding.json, as one JSON object.
    """
    from lab.live.run_monitor import conclude
    from lab.reports.finding_report import finding_summary
    from lab.store.console import Console

    with aside(store.path / LOG) as (screen, errors):
        console, display = Console(file=screen), "none" if as_json else display
        status, reason, finding = carry_out_study(loaded, store, console, address=address, display=display)
        if status != "finished":
            talking = None if display == "none" else console
            return unfinished("lab.run", "answer", status, reason, talking, errors, store.path)
        if as_json:
            say_json({"run": str(store.path), "finding": finding}, file=screen)
        elif display != "none":
            conclude(console, finding_summary(finding or {}), store.path)
    return 0


def carry_out_study(
    loaded: Loaded, store: RunStore, console: Console, *, address: str | None, display: str
) -> tuple[str, str | None, dict | None]:
    """Asks what `store.earlier` does not hold yet, with progress on `console`.

    Returns the status (finished, failed or interrupted), the reason where it is not finished, and the content of
    finding.json where it is.
    """
    from lab.live.study_screen import study_display

    with study_display(display, console, str(store.path), store.earlier) as watch:
        return carried_out(lambda: perform_study(loaded, store, watch, address=address), store, watch.show, "answer")


def perform_study(loaded: Loaded, store: RunStore, watch: Onlooker, *, address: str | None) -> dict:
    """Loads, asks, concludes and reports; every event is stored before it is shown. Returns the content of
    finding.json.

    Raises ValueError where the model or an arm fails, StoreError where a file cannot be written.
    """
    from lab.dialogue import seats
    from lab.dialogue.cluster import hosting
    from lab.reports.write import write_report
    from lab.store.atomic_write import dumps, replace
    from lab.store.event_log import now, read_events
    from lab.store.frames import answers_frame
    from lab.store.run_store import write_frame
    from lab.studies.arms import Arms
    from lab.studies.ask_model import Asking
    from lab.studies.teaching import teach

    def emit(kind: str, **rest: object) -> None:
        watch.show(store.append({"event": kind, **rest}))

    study, seat = loaded.study, loaded.study.seats.assistant
    emit("phase", phase="loading", detail=seat.model)
    engines = 1 if loaded.questions and not seat.endpoint else 0
    with hosting(address, engines, lambda detail: emit("recovered", detail=detail)) as make:
        respondent = seats.respondent(study, make) if loaded.questions else None
        info = respondent.engine.info() if respondent else study
        store.update_manifest(device=info.device, dtype=info.dtype)
        emit(
            "started",
            run_id=store.run_id,
            name=study.name,
            study=study.study,
            claim=study.claim,
            size=study.size,
            arms=loaded.asked,
            models={"assistant": seat.model},
            device=info.device,
            dtype=info.dtype,
            resumed=bool(store.earlier),
        )
        emit("phase", phase="asking", detail=study.study)
        ask = Asking(
            respondent,
            emit,
            store.earlier,
            lambda: _used(respondent),
            partial(teach, study),
            store.path / "adapters",
            Arms(study, store.path, emit),
        )
        finding = loaded.module.study(ask, loaded.stimuli, study.seed, **study.numbers())
    emit("phase", phase="reporting", detail="report.md")
    record = finding_record(study, finding)
    answers = answers_frame(store.run_id, study.study, read_events(store.path))
    write_frame(store.path / ANSWERS, answers)
    replace(store.path / FINDING, dumps(record, indent=2) + b"\n")
    # as the report is to say
    store.update_manifest(status="finished", finished=now(), verdict=record["verdict"], answers=len(answers))
    write_report(store.path)
    return record


def _used(respondent) -> dict:
    usage = respondent.engine.usage()
    return {name: getattr(usage, name) for name in ("tokens_new", "tokens_computed", "generated")}


def finding_record(study: Study, finding: Finding) -> dict:
    """The content of finding.json.

    `value`, `low`, `high` and `n` are those of the statistic; `controls` are true (passed), false (failed) or null
    (unclear); `needed` is the number of units that would decide an inconclusive result with 80% power, or null;
    `measures`, `pictures` and `tables` hold all other figures. Where a number of `reading` is not known, it has a dash.
    """
    decided = study_verdict(finding.controls, finding.tests)
    statistic, test = next(iter(finding.tests.items()))
    return {
        "name": study.study,
        "claim": study.claim,
        "source": study.source,
        "model": study.seats.assistant.model,
        "adapter": study.seats.assistant.adapter,
        "size": study.size,
        "statistic": statistic,
        **plain(test.interval),
        "controls": control_states(finding.controls),
        "verdict": decided.word,
        "reading": UNKNOWN.sub(MISSING, finding.reading),
        "why": decided.why,
        "needed": decided.needed,
        "control_figures": {name: control_evidence(control) for name, control in finding.controls.items()},
        "tests": {
            name: {"found": plain(test.interval), "confirms": test.confirms, "refutes": test.refutes}
            for name, test in finding.tests.items()
        },
        "measures": {name: plain(figure) for name, figure in finding.measures.items()},
        "pictures": {name: asdict(picture) for name, picture in finding.pictures.items()},
        "tables": {
            title: {row: {column: plain(figure) for column, figure in cells.items()} for row, cells in rows.items()}
            for title, rows in finding.tables.items()
        },
    }


def checked(what: Scenario | Recipe | Study) -> None:
    """Raises ValueError for everything that can be found wrong before a model is loaded."""
    from lab.dialogue import wiring

    if isinstance(what, Study):
        check_study(planned(what))
    elif isinstance(what, Recipe):
        check_training(what)
    else:
        wiring.check_scenario(what)
