"""What a training shows while it goes on: rewards, divergence, lengths, the best and the worst line, time left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lab.compare_tables import FEW
from lab.display import Watch
from lab.display import choose as choose_display
from lab.headline import evaluated, held_out, tripped
from lab.progress import moment
from lab.screen import COLOURS, clean, duration
from scenarios.recipe import Recipe

BARS = "▁▂▃▄▅▆▇█"
SHOWN = {
    "reward": "reward", "reward_prompt_to_line": "prompt-to-line", "reward_line_to_line": "line-to-line", "reward_questions": "questions",
    "reward_relevance": "relevance", "penalised": "wires tripped", "kl": "KL, nats a token", "ratio": "ratio", "entropy": "entropy",
    "length": "tokens a line", "grad_norm": "gradient norm", "loss": "loss"}


def choose(display: str, console: Console, recipe: Recipe, path: str, earlier: Sequence[dict] = ()) -> Watch:
    """`earlier`: step events of a training that goes on, which only the screen shows again."""
    course, began = Course(list(earlier)), time.time()
    return choose_display(display, console, path, course.fold, lambda event: told(recipe, event), lambda where: render(
        recipe, where, list(course.steps), course.phase, time.time() - began, course.stopped))


def told(recipe: Recipe, event: Mapping) -> str:
    """The event as a line of text; "" where it is none for people."""
    if event["event"] == "step":
        return (f"step {event['step'] + 1}/{recipe.max_steps}  {_told(event)}  {event['seconds_play'] + event['seconds_learn']:.0f} s"
                + (f"  {event['note']}" if event.get("note") else ""))
    if event["event"] == "collected":
        return f"{_collected(event)}  {event['seconds_play']:.0f} s"
    if event["event"] in ("phase", "recovered", "stopped", "ended"):
        return " ".join(str(event[key]) for key in ("phase", "status", "detail", "reason") if event.get(key))
    return ""


@dataclass
class Course:
    """What a training's events have told so far. `clock`: the time of the last one, `began`: when this sitting did, in seconds since
    1970."""

    steps: list[dict] = field(default_factory=list)
    phase: str = "loading"
    stopped: str = ""
    began: float = 0.0
    clock: float = 0.0

    def fold(self, event: dict) -> None:
        """A step that is done again, after a checkpoint that a resumed training went on from, takes the place of what was done since."""
        self.clock = max(self.clock, moment(event))
        if event["event"] == "started":
            self._forget(event.get("first", 0))
        elif event["event"] == "step":
            self._forget(event["step"])
            self.steps.append(event)
        elif event["event"] == "phase":
            self.phase = f"{event['phase']} {event.get('detail', '')}"
            if event["phase"] == "loading":
                self.began, self.stopped = moment(event), ""
        elif event["event"] == "collected":
            self.phase = _collected(event)
        elif event["event"] == "stopped":
            self.stopped = f"stopped after step {event['step']}: {event['reason']}"
        elif event["event"] == "ended":
            self.phase = event["status"] + (f": {event['reason']}" if event.get("reason") else "")

    def _forget(self, step: int) -> None:
        while self.steps and self.steps[-1]["step"] >= step:
            self.steps.pop()


def render(recipe: Recipe, path: str, steps: list[dict], phase: str, seconds: float, stopped: str = "") -> RenderableType:
    """The screen: pure, of what is known. `path`: the run's folder, or how to watch it."""
    left, done = "", steps[-1]["step"] + 1 if steps else 0
    if steps:
        each = sum(step["seconds_play"] + step["seconds_learn"] for step in steps) / len(steps)
        left = f"  {duration(each * (recipe.max_steps - done))} left in training"
    head = Text.assemble((f"{recipe.name} ", "bold"), f"{recipe.method} on {_taught(recipe)}  step {done}/{recipe.max_steps}  ",
                         clean(phase), f"  {duration(seconds)}{left}\n", (clean(path), "dim"),
                         (f"\n{clean(stopped)}" if stopped else "", "bold red"))
    table = Table(box=None, padding=(0, 2))
    for title in ("", "now", "first", "so far"):
        table.add_column(title, justify="left" if title in ("", "so far") else "right")
    for key, name in SHOWN.items():
        values = [step[key] for step in steps if _known(step.get(key))]
        if values:
            table.add_row(name, _number(values[-1]), _number(values[0]), sparkline(values, 60))
    last = steps[-1].get("samples", {}) if steps else {}
    talks = [Panel(_talk(last[name]["lines"]), title=f"{name} dialogue of the step, reward {_number(last[name]['reward'])}")
             for name in ("best", "worst") if name in last]
    if steps and steps[-1].get("note"):
        talks.insert(0, Text(steps[-1]["note"], style="bold yellow"))
    return Group(Panel(head), Panel(table, title="rewards and the learner"), *talks)


def _told(event: Mapping) -> str:
    return "  ".join(f"{name} {_number(event[key])}" for key, name in SHOWN.items() if _known(event.get(key)))


def _collected(event: Mapping) -> str:
    return f"played by the untouched {event['seat']} {event['batch'] + 1}/{event['batches']}  {_told(event)}"


def _taught(recipe: Recipe) -> str:
    return "both seats in turn" if recipe.seat == "both" else f"the {recipe.seat}'s seat"


def _talk(lines: list) -> Group:
    return Group(*(Text.assemble((f"{seat}: ", COLOURS[seat]), clean(text)) for seat, text in lines))


def sparkline(values: list[float], width: int) -> str:
    """The values as bars from their least to their greatest, at most `width` of them, neighbours averaged."""
    size = -(-len(values) // width)
    means = [sum(values[at : at + size]) / len(values[at : at + size]) for at in range(0, len(values), size)]
    low, high = min(means), max(means)
    return "".join(BARS[int((value - low) / (high - low) * (len(BARS) - 1)) if high > low else 0] for value in means)


def summary(table: pl.DataFrame, stopped: str = "") -> RenderableType:
    """What was found with people and wordings held out, a table a scenario and seat, then tripped wires. `stopped`: what ended the training
    early."""
    shown = []
    for found in evaluated(table):
        if found.header[0] == "measure":  # wires are told in a sentence, where they are out of bounds
            out = Table(title=found.title, title_justify="left", box=None, padding=(0, 2))
            for title in found.header:
                out.add_column(title)
            for row in found.rows:
                out.add_row(*(text for text, _ in row))
            shown.append(out)
    shown += [line for _, _, part in held_out(table) for line in _tripped(part)]
    if few := table.filter(pl.col("people") < FEW)["people"].max():
        shown.append(Text(f"Intervals resample {few} people or fewer, which makes them too narrow.", style="dim"))
    if stopped:
        shown.append(Text(clean(stopped), style="bold red"))
    return Group(*shown)


def _tripped(part: pl.DataFrame) -> list[Text]:
    """A sentence for each arm whose wires are out of bounds."""
    return [Text(f"{arm}: " + ", ".join(f"{name} {value:.2f} (expected {bound})" for name, value, bound in wires), style="bold red")
            for arm, wires in tripped(part).items() if wires]


def _known(value: object) -> bool:
    return isinstance(value, (int, float)) and value == value


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 0.01 else f"{value:.3f}".rstrip("0").rstrip(".")
