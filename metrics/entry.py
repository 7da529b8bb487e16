"""The entry of a metric: its name, its function, what it needs, and how its figures are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import exp, inf, isnan
from typing import TypedDict

import polars as pl

MISSING = "–"  # in place of a number that is not there
ACTIVATIONS = "activations"  # what a metric may need beside judgements, EMBEDDER and REFERENCE (metrics.judges.entry)


@dataclass(frozen=True)
class Figure:
    """How tables show a figure: its group, its label and its number format."""

    group: str  # of metrics.catalogue.GROUPS, or another word; rows of one group stand together
    label: str
    number: Callable[[float], str]
    drifts: bool = False  # above 0 means that the seat gets worse


class IntervalOptions(TypedDict):
    """How intervals are computed, as keyword arguments of the reductions."""

    confidence: float  # 0 to 1


@dataclass(frozen=True)
class MetricContext:
    """The inputs of a metric. Frames have the columns of turns.parquet and judgements.parquet."""

    turns: pl.DataFrame
    judgements: pl.DataFrame
    window: int  # own previous lines that local drift compares with
    how: IntervalOptions
    cards: Mapping[tuple[int, str], str] | None = None  # a persona's card by (conversation, seat)
    embed: Callable | None = None  # texts -> unit vectors (texts, width)
    logprobs: Callable | None = None  # (cards, texts) -> for each text, said under its card, nats of each token
    activations: pl.DataFrame | None = None  # conversation, turn, seat, value


@dataclass(frozen=True)
class MetricEntry:
    """A metric that a scenario can name. A package adds one by an entry point of the group `dialogue_lab.metrics`.

    `rows` returns a frame with the columns of `metrics.METRICS_SCHEMA`. `figures` says how tables show each metric name
    in that frame; a metric without a figure is listed last, under its own name. `needs` names what a run
    has to provide for it: judgements ("prompt_to_line", "line_to_line", "qa"), ACTIVATIONS, and models (EMBEDDER
    provides the context's `embed`, REFERENCE both `embed` and `logprobs`). What other metrics need is in the context
    too, and a metric may use it without asking for it.
    """

    name: str
    rows: Callable[[MetricContext], pl.DataFrame]
    figures: Mapping[str, Figure] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    part_of: str | None = None  # the metric that brings it; a scenario cannot name it then


def estimate_text(value: float | None, low: float | None, high: float | None, number: Callable[[float], str]) -> str:
    """`value [low, high]`, each by `number`; the value alone where neither bound is there, MISSING for None and NaN."""
    value_text, *bounds = (MISSING if each is None or isnan(each) else number(each) for each in (value, low, high))
    return value_text if value_text == MISSING or bounds == [MISSING] * 2 else f"{value_text} [{', '.join(bounds)}]"


def share_format(value: float) -> str:
    """A share with two decimals: 0.25."""
    return f"{value:.2f}"


def cosine_format(value: float) -> str:
    """A cosine, -1 to 1, with two decimals: 0.25."""
    return f"{value:.2f}"


def change_format(value: float) -> str:
    """A change with its sign and two decimals: +0.25."""
    return f"{value:+.2f}"


def slope_format(value: float) -> str:
    """A slope with its sign and four decimals: +0.0025."""
    return f"{value:+.4f}"


def lines_format(value: float) -> str:
    """A number of lines with one decimal; "∞" for infinity."""
    return "∞" if value == inf else f"{value:.1f}"


def count_format(value: float) -> str:
    """A count without decimals."""
    return f"{value:.0f}"


def exponential_format(value: float) -> str:
    """e to the power of the value, with one decimal: the perplexity, from a mean in nats per token."""
    return f"{exp(value):.1f}"
