"""The screen of a running training: rewards, divergence, lengths, the best and the worst line, and the time left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import polars as pl
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lab.live.dialogue_panels import COLOURS
from lab.live.display import Watch, choose_display
from lab.live.run_screen import duration
from lab.progress.training import SHOWN, TrainingProgress, collected_text, is_number, numbers_text, short_number
from lab.reports.evaluation_table import evaluation_tables, held_out_groups, tripped
from lab.reports.headline import FEW
from scenarios.jobs.recipe import Recipe
from scenarios.messages import clean

BARS = "▁▂▃▄▅▆▇█"


def training_display(display: str, console: Console, recipe: Recipe, path: str, earlier: Sequence[dict] = ()) -> Watch:
    """The display of a training. `earlier` holds the `step` events of a training that is resumed, for the full
    screen.
    """
    progress, began = TrainingProgress(list(earlier)), time.time()
    return choose_display(
        display,
        console,
        path,
        progress.fold,
        lambda event: training_event_text(recipe, event),
        lambda where: render(
            recipe, where, list(progress.steps), progress.phase, time.time() - began, progress.stopped
        ),
    )


def training_event_text(recipe: Recipe, event: Mapping) -> str:
    """The event as a line of text; "" for events that are not shown."""
    if event["event"] == "step":
        return (
            f"step {event['step'] + 1}/{recipe.max_steps}  {numbers_text(event)}  "
            f"{event['seconds_play'] + event['seconds_learn']:.0f} s"
            + (f"  {event['note']}" if event.get("note") else "")
        )
    if event["event"] == "collected":
        return f"{collected_text(event)}  {event['seconds_play']:.0f} s"
    if event["event"] in ("phase", "recovered", "notice", "stopped", "ended"):
        return " ".join(str(event[key]) for key in ("phase", "status", "detail", "reason") if event.get(key))
    return ""


def render(
    recipe: Recipe, path: str, steps: list[dict], phase: str, seconds: float, stopped: str = ""
) -> RenderableType:
    """The screen after `seconds` of training; a pure function. `path` is the run's folder, or how to watch it."""
    left, done = "", steps[-1]["step"] + 1 if steps else 0
    if steps:
        each = sum(step["seconds_play"] + step["seconds_learn"] for step in steps) / len(steps)
        learnt = sum(step.get("tokens_learnt", 0) for step in steps) / len(steps)
        left = f"  {duration(each * max(0, recipe.expected_steps(learnt) - done))} left in training"
    head = Text.assemble(
        (f"{recipe.name} ", "bold"),
        f"{recipe.method} on {_taught(recipe)}  step {done}/{recipe.max_steps}  ",
        clean(phase),
        f"  {duration(seconds)}{left}\n",
        (clean(path), "dim"),
        (f"\n{clean(stopped)}" if stopped else "", "bold red"),
    )
    table = Table(box=None, padding=(0, 2))
    for title in ("", "now", "first", "so far"):
        table.add_column(title, justify="left" if title in ("", "so far") else "right")
    for key, name in SHOWN.items():
        values = [step[key] for step in steps if is_number(step.get(key))]
        if values:
            table.add_row(name, short_number(values[-1]), short_number(values[0]), sparkline(values, 60))
    last = steps[-1].get("samples", {}) if steps else {}
    talks: list[RenderableType] = [
        Panel(
            _talk(last[name]["lines"]),
            title=f"{name} dialogue of the step, reward {short_number(last[name]['reward'])}",
        )
        for name in ("best", "worst")
        if name in last
    ]
    if steps and steps[-1].get("note"):
        talks.insert(0, Text(steps[-1]["note"], style="bold yellow"))
    return Group(Panel(head), Panel(table, title="rewards and the learner"), *talks)


def _taught(recipe: Recipe) -> str:
    return "both seats in turn" if recipe.seat == "both" else f"the {recipe.seat}'s seat"


def _talk(lines: list) -> Group:
    return Group(*(Text.assemble((f"{seat}: ", COLOURS[seat]), clean(text)) for seat, text in lines))


def sparkline(values: list[float], width: int) -> str:
    """The values as at most `width` bars, from their smallest to their largest; neighbours are averaged."""
    size = -(-len(values) // width)
    means = [sum(values[at : at + size]) / len(values[at : at + size]) for at in range(0, len(values), size)]
    low, high = min(means), max(means)
    return "".join(BARS[int((value - low) / (high - low) * (len(BARS) - 1)) if high > low else 0] for value in means)


def training_summary(table: pl.DataFrame, stopped: str = "") -> RenderableType:
    """The evaluation with held-out personas and paraphrases: one table per scenario and seat, then the tripwires out of
    bounds.

    `stopped` says why the training ended early, "" where it did not.
    """
    shown = []
    for evaluated in evaluation_tables(table):
        if evaluated.header[0] == "measure":  # tripwires out of bounds are named in a sentence below
            out = Table(title=evaluated.title, title_justify="left", box=None, padding=(0, 1), pad_edge=False)
            for title in evaluated.header:
                out.add_column(title, no_wrap=title != evaluated.header[-1])  # in 80 columns the last one's is broken
            for row in evaluated.rows:
                out.add_row(*(text for text, _ in row))
            shown.append(out)
    shown += [line for _, _, part in held_out_groups(table) for line in _tripped(part)]
    if few := table.filter(pl.col("people") < FEW)["people"].max():
        shown.append(
            Text(f"The units of intervals are {few} people or fewer: only large differences are seen.", style="dim")
        )
    if stopped:
        shown.append(Text(clean(stopped), style="bold red"))
    return Group(*shown)


def _tripped(part: pl.DataFrame) -> list[Text]:
    """One sentence per arm with tripwires out of bounds."""
    return [
        Text(
            f"{arm}: " + ", ".join(f"{name} {value:.2f} (expected {bound})" for name, value, bound in wires),
            style="bold red",
        )
        for arm, wires in tripped(part).items()
        if wires
    ]
