"""Tests of judges by name, with their models loaded in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lab.selftests.judge_figures import (
    free_text_personas,
    judge_figures,
    labelled_conversations,
    townsfolk_sentences,
)
from lab.selftests.planted_drift import Result, Size, selftest
from lab.selftests.tables import columns, figure_rows
from lab.store.output import say

if TYPE_CHECKING:
    from metrics.judges import Judge
    from metrics.judges.pair_retrieval import Embed
    from scenarios.schema import Measure


def with_judges(names: Sequence[str], personas: str | Path, size: Size, seed: int, device: str = "auto") -> Result:
    """The self-test of these judges. `personas` is a persona file, `device` that of the models.

    Raises ValueError where a judge cannot be loaded or the file is invalid.
    """
    from scenarios.personas import load_personas
    from scenarios.schema import Measure

    cast = load_personas(personas)
    judges, embed = loaded(Measure(judge=list(names)), device)
    return selftest(judges, cast, size, seed, embed=embed)


def compare_judges(
    names: Sequence[str],
    sources: Sequence[str],
    personas: str | Path,
    device: str = "auto",
    json: str | None = None,
    plot: str | None = None,
) -> int:
    """Prints the figures of the judges on labelled lines (see `lab.selftests.judge_figures`), and returns 0.

    `sources` are files or run folders with labels, and overrides such as `measure.nli.model=...`; `personas` is the
    file of the townsfolk; `json` and `plot` are files for the figures and a reliability diagram. Raises ValueError
    where a judge cannot be loaded, or a file cannot be read or has no labels, before anything is judged; StoreError.
    """
    from lab.reports.plot_kit import save
    from lab.reports.plots import plot_reliability
    from lab.store.atomic_write import dumps, replace
    from lab.transcripts.scoring import DEFAULT_METRICS, check_outputs, measure_of, paths_and_overrides
    from scenarios.personas import load_personas

    check_outputs(json, plot, against_labels=True)
    paths, overrides = paths_and_overrides(sources)
    measure = measure_of(",".join(names), DEFAULT_METRICS, overrides)
    files = [labelled_conversations(path) for path in paths]
    judges, _ = loaded(measure, device)
    figures = []
    for lines in (townsfolk_sentences(load_personas(personas)), free_text_personas(), *files):
        say(f"{lines.name}: {len(lines.pairs)} lines, {sum(lines.contradicts)} of them contradict", flush=True)
        figures += [judge_figures(judge, lines, confidence=measure.confidence) for judge in judges]
        say(columns(figure_rows(figures[-len(judges) :])) + "\n", flush=True)
    if json:
        replace(Path(json), dumps({"figures": list(map(asdict, figures))}, indent=2) + b"\n")
    if plot:
        curves = {f"{figure.judge}, {figure.lines}": figure.bins for figure in figures}
        save({Path(plot).name: plot_reliability(curves)}, Path(plot).parent)
    return 0


def loaded(measure: Measure, device: str) -> tuple[list[Judge], Embed]:
    """The judges that `measure` names, and an embedder. Raises ValueError where one cannot be loaded."""
    from lab.dialogue import judges as wiring

    wiring.check_judges(measure)
    engines = {name: _engine(name, device) for name in wiring.judge_engines(measure)}
    return wiring.judges(measure, engines, device), wiring.embedding(device)


def _engine(name: str, device: str):
    """A model in this process."""
    from agents.engine.local import LocalEngine
    from agents.models.loading import load

    return LocalEngine(load(name, "auto", device))
