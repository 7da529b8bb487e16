"""The screen of a running sweep: trials, nodes, queue, the best trial so far and failures. The state is folded from the
sweep's events alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lab.live.display import Watch, choose_display
from lab.live.run_screen import duration
from lab.progress.sweep import DONE, RUNNING, WAITING, SweepProgress, TrialProgress
from metrics.entry import MISSING, estimate_text, share_format
from scenarios.jobs.sweep import Best, Sweep
from scenarios.messages import clean
from scenarios.records import SEATS

STYLES = {"running": "bold", "finished": "green", "stopped": "yellow", "failed": "red", "again": "yellow"}
ORDER = ("running", "failed", "again", "finished", "stopped", "waiting")
SHOWN = 12  # trials on the screen, beside those that run
FAILURES = 4


def sweep_display(display: str, console: Console, sweep: Sweep, path: str, progress: SweepProgress) -> Watch:
    """The display of a sweep. `progress` is the state after the events so far; it folds every event that is shown."""
    return choose_display(
        display,
        console,
        path,
        progress.fold,
        lambda event: sweep_event_text(progress, sweep, event),
        lambda where: render(progress, sweep, where, time.time()),
    )


def sweep_event_text(progress: SweepProgress, sweep: Sweep, event: dict) -> str:
    """The event as a line of text; "" for events that are not shown."""
    kind = event["event"]
    if kind == "sweep":
        left = progress.count(WAITING, "again", "failed")
        return f"{progress.name}: {len(progress.trials)} trials" + (
            f", {left} of them left" if left < len(progress.trials) else ""
        )
    if kind == "trial":
        seen = progress.trials[event["trial"]]
        done = f"[{progress.count(*DONE, 'failed')}/{len(progress.trials)}]"
        where = f" on {seen.node}" if seen.status == RUNNING and seen.node else ""
        came = f" {_value(seen, sweep)}" if seen.status == "finished" else ""
        took = f" {duration(seen.seconds)}" if seen.seconds and seen.status == "finished" else ""
        return f"{done} {event['trial']} {seen}: {_status(seen.status)}{where}{came}{took}" + (
            f": {seen.reason}" if seen.reason else ""
        )
    if kind == "nodes":
        return f"nodes: {progress.nodes}, {progress.cores:g} cores" if "time" in event else ""
    if kind in ("phase", "ended"):
        return f"== {progress.phase}"
    return ""


def render(progress: SweepProgress, sweep: Sweep, path: str, now: float) -> RenderableType:
    """The screen at `now`, in seconds since 1970; a pure function. `path` is the sweep's folder, or how to watch it."""
    total, over = len(progress.trials), progress.count(*DONE, "failed")
    left = progress.count(WAITING, "again")
    took = [seen.seconds for seen in progress.trials.values() if seen.seconds]
    slots = max(1, progress.count(RUNNING))
    time_left = (
        f"  about {duration(sum(took) / len(took) * (total - over) / slots)} left" if took and over < total else ""
    )
    head = Text.assemble(
        (f"{progress.name} ", "bold"),
        f"{over}/{total} trials  {progress.count(RUNNING)} running  {left} in the queue  ",
        (f"{progress.count('failed')} failed  " if progress.count("failed") else "", "red"),
        clean(progress.phase),
        f"  {duration(max(0.0, now - progress.began))}{time_left}\n",
        f"{progress.nodes} nodes, {progress.cores - progress.free:g} of {progress.cores:g} cores at work\n"
        if progress.nodes
        else "",
        (clean(path), "dim"),
    )
    parts: list[RenderableType] = [Panel(head), _trials(progress, sweep, now)]
    if best := progress.best(sweep.best):
        parts.append(
            Panel(Text(f"{best[0]}: {_cell(best[1])}"), title=f"best so far: {sweep.best.mode} {_measure(sweep.best)}")
        )
    failures = [
        f"{seen}: {clean(seen.reason or '')}" for seen in progress.trials.values() if seen.status in ("failed", "again")
    ]
    if failures:
        more = [f"and {len(failures) - FAILURES} more"] if len(failures) > FAILURES else []
        parts.append(Panel(Text("\n".join([*failures[:FAILURES], *more]), style="red"), title="failed, or lost"))
    return Group(*parts)


def _trials(progress: SweepProgress, sweep: Sweep, now: float) -> Panel:
    table = Table(box=None, padding=(0, 2))
    for title in ("trial", *sweep.axis_names(), "status", "node", "time", _measure(sweep.best)):
        table.add_column(Text(clean(title.rpartition(".")[2])), no_wrap=True)
    ranked = sorted(progress.trials.items(), key=lambda item: (ORDER.index(item[1].status), -item[1].began))
    for trial, seen in ranked[: max(SHOWN, progress.count(RUNNING))]:
        spent = seen.seconds if seen.seconds is not None else now - seen.began if seen.status == RUNNING else None
        status = f"{seen.lines}/{seen.of}" if seen.status == RUNNING and seen.of else _status(seen.status)
        table.add_row(
            trial,
            *(Text(clean(json.dumps(value, ensure_ascii=False))) for value in seen.values.values()),
            Text(status, style=STYLES.get(seen.status, "dim")),
            Text(clean(seen.node or "")),
            duration(spent) if spent is not None else "",
            _value(seen, sweep),
        )
    hidden = len(ranked) - table.row_count
    return Panel(table, title="trials", subtitle=f"and {hidden} more" if hidden > 0 else None)


def sweep_summary(progress: SweepProgress, sweep: Sweep) -> RenderableType:
    """The results of a sweep, one row per trial: its values, its status, and for both seats the measures by which
    trials are compared.
    """
    table = Table(title="Results", title_style="bold", box=box.SIMPLE_HEAD)
    for title in ("trial", "values", "status", *(f"{seat}: {sweep.best.metric.replace('_', ' ')}" for seat in SEATS)):
        table.add_column(title)
    for trial, seen in progress.trials.items():
        cells = [
            next((_cell(row) for row in seen.metrics if (row["metric"], row["seat"]) == (sweep.best.metric, seat)), "")
            for seat in SEATS
        ]
        status = _status(seen.status) + (f": {clean(seen.reason)}" if seen.reason else "")
        table.add_row(trial, Text(str(seen)), Text(status, style=STYLES.get(seen.status, "")), *cells)
    return table


def _measure(best: Best) -> str:
    return f"{best.metric.replace('_', ' ')}, {best.seat}"


def _value(seen: TrialProgress, sweep: Sweep) -> str:
    """The number by which trials are ranked; of a training in progress, the number that its scheduler compares."""
    rows = [row for row in seen.metrics if row["metric"] == sweep.best.metric and row["seat"] == sweep.best.seat]
    if rows:
        return _cell(rows[0])
    watched = sweep.scheduler.metric if sweep.scheduler else "reward"
    return f"{watched} {seen.numbers[watched]:.3g}" if watched in seen.numbers else ""


def _cell(row: Mapping) -> str:
    text = estimate_text(row["value"], row["low"], row["high"], share_format)
    return "" if text == MISSING else f"{text} n={row['n']}"


def _status(status: str) -> str:
    return "will be tried again" if status == "again" else status
