"""Throughput by number of engine actors, measured and modelled: `python -m lab.bench --actors 1 2 4`.

n actors of a private Ray cluster (`agents.engine.actor`), each with the same number of threads and of dialogues, are
driven concurrently by this process, with one thread each. A law is fitted to the two smallest n whose actors have cores
of their own, and predicts the others:

    T(n) = n λ / (1 + σ (n - 1)) tokens/s; with room for r actors, no more than T(r)

- λ is the rate of a single actor, in tokens/s.
- σ, 0 to 1, is the share of its time in which an actor needs a resource that all share.
- r is the number of cores divided by an actor's threads, or the number of GPUs; more actors only divide these.

On one machine σ includes memory, caches and the driver. On a cluster each actor has its own machine: λ is the same, and
σ is the driver's part alone. The driver's CPU seconds are therefore measured separately: with s seconds per line and k
tokens per line, one driver feeds k / (λ s) actors. This number is low, since s includes the work of all threads; but s
covers only the requests to engines, and a run adds its walks, judges and store.

The law is Gunther's universal scalability law, C(N) = N / (1 + α (N - 1) + β N (N - 1)) (Guerrilla Capacity Planning,
2007; arXiv 0808.1431), with three differences. λ is kept, where he divides by it. β is left out, since it describes
parts that wait for each other in pairs, as actors never do: T cannot decrease, and where measurements do, the law does
not hold. The bound by r is added. He fits by regression over half a dozen loads; here the law passes through two
measurements, and the others test it.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agents.engine.protocol import Engine
from agents.models.info import EngineInfo
from lab.benchmark.work import CARD, SIZES, Sizes, play_lines, random_words
from lab.store.output import say

ACTORS = (1, 2, 4)  # where no number is named
MOST = 64  # actors; each holds the model
REPEATS = 3


@dataclass(frozen=True)
class Law:
    """The fitted law of the module's docstring."""

    rate: float  # λ, tokens/s of an actor alone
    sigma: float  # share of its time that is shared, 0 to 1
    room: int  # actors that have cores, or a GPU, of their own

    def tokens_per_s(self, actors: int) -> float:
        """The predicted tokens/s of that many actors together."""
        placed = min(actors, self.room)
        return placed * self.rate / (1 + self.sigma * (placed - 1))


def fitted_on(counts: Sequence[int], room: int) -> list[int]:
    """The numbers of actors to which the law is fitted: the two smallest for which there is room, or else the
    smallest.
    """
    return sorted(n for n in counts if n <= room)[:2] or [min(counts)]


def fit_law(measured: Mapping[int, float], room: int) -> Law:
    """The law through the tokens/s at `fitted_on`, since n/T = 1/λ + (n - 1) σ/λ is linear in n.

    Where the line would give σ below 0 or above 1, σ is that bound and λ the mean of the values that fit it. With one
    measurement, σ is 0.
    """
    points = [(min(n, room), measured[n]) for n in fitted_on(list(measured), room)]
    if len(points) == 2:
        (n, t), (m, u) = points
        slope = (m / u - n / t) / (m - n)
        alone = n / t - slope * (n - 1)
        if 0 <= slope < alone:
            return Law(1 / alone, slope / alone, room)
        if slope > 0:
            return Law(statistics.mean(t for _, t in points), 1.0, room)
    return Law(statistics.mean(t / n for n, t in points), 0.0, room)


def measure_actors(
    counts: Sequence[int], model: str, dtype: str = "auto", device: str = "auto", *, quick: bool = False
) -> dict:
    """The figures `{machine, work, law, actors}` for each number of actors in `counts` (ACTORS where it is empty).

    Sets LAB_THREADS, which actors read, where it is not set. Raises ValueError for a number outside 1 to MOST, and
    where an engine died during the measurement.
    """
    from agents.models import loading
    from lab.dialogue.cluster import hosting
    from lab.store.session import aside

    counts = sorted(set(counts or ACTORS))
    if wrong := [n for n in counts if not 1 <= n <= MOST]:
        raise ValueError(f"--actors {wrong[0]}: that many cannot be measured; expected whole numbers from 1 to {MOST}")
    loading.check(model)
    cores = len(os.sched_getaffinity(0))
    threads = _threads(max(1, cores // counts[-1]))
    sizes = SIZES["quick"] if quick else replace(SIZES["quick"], dialogues=8)
    with (
        aside(Path(os.devnull)) as (_, shown),
        hosting("local", counts[-1], _spoilt) as host,
        ThreadPoolExecutor(counts[-1]) as pool,
    ):
        say(f"starting {_so_many(counts[-1])} ...", file=shown, flush=True)
        engines = list(pool.map(lambda _: host(model, dtype, device), range(counts[-1])))
        infos = [engine.info() for engine in engines]
        runs = {}
        for n in counts:
            say(f"measuring: {_so_many(n)} ...", file=shown, flush=True)
            runs[n] = _runs(engines[:n], sizes, pool)
    room = len({info.place for info in infos}) if infos[0].device.startswith("cuda") else max(1, cores // threads)
    return actor_figures(runs, room, sizes) | {"machine": _machine(infos[0], threads, cores)}


def actor_figures(runs: Mapping[int, Sequence[tuple[float, float]]], room: int, sizes: Sizes) -> dict:
    """`{work, law, actors: one row per number of actors}` with medians over repeats.

    `runs` holds (tokens/s, the driver's CPU seconds per line) of each repeat.
    """
    measured = {n: statistics.median(rate for rate, _ in samples) for n, samples in runs.items()}
    law, rows = fit_law(measured, room), []
    for n, samples in runs.items():
        driver = statistics.median(seconds for _, seconds in samples)
        rows.append(
            {
                "actors": n,
                "tokens_per_s": measured[n],
                "each": [rate for rate, _ in samples],
                "fitted": n in fitted_on(list(runs), room),
                "predicted_tokens_per_s": law.tokens_per_s(n),
                "driver_s_per_line": driver,
                "one_driver_feeds": sizes.tokens / (law.rate * driver),
            }
        )
    work = {"dialogues_an_actor": sizes.dialogues, "lines": sizes.lines, "tokens": sizes.tokens}
    return {"work": work, "law": asdict(law), "actors": rows}


def _threads(share: int) -> int:
    """The threads of an actor: LAB_THREADS, or else `share`, to which LAB_THREADS is then set. Raises ValueError."""
    given = os.environ.get("LAB_THREADS") or str(share)
    if not given.isdecimal() or not int(given):
        raise ValueError(
            f"LAB_THREADS is {given!r}; expected how many threads an actor computes on, a whole number from 1 on"
        )
    os.environ["LAB_THREADS"] = given
    return int(given)


def _machine(info: EngineInfo, threads: int, cores: int) -> dict:
    return {
        "model": info.model,
        "device": info.device,
        "dtype": info.dtype,
        "threads_an_actor": threads,
        "cores": cores,
    }


def _so_many(actors: int) -> str:
    return "1 actor" if actors == 1 else f"{actors} actors"


def _spoilt(detail: str) -> None:
    raise ValueError(
        f"--actors: {detail}, which spoils the measurement; expected enough memory for them all: fewer actors"
    )


def _runs(engines: Sequence[Engine], sizes: Sizes, pool: ThreadPoolExecutor) -> list[tuple[float, float]]:
    """(tokens/s of all actors together, this process's CPU seconds per line) of each repeat, after an untimed short
    play.
    """
    _timed(engines, replace(sizes, dialogues=1, lines=2, tokens=2), pool)
    return [_timed(engines, sizes, pool) for _ in range(REPEATS)]


def _timed(engines: Sequence[Engine], sizes: Sizes, pool: ThreadPoolExecutor) -> tuple[float, float]:
    opened = list(pool.map(lambda engine: _opened(engine, sizes), engines))
    before = sum(engine.usage().generated for engine in engines)
    start, cpu = time.perf_counter(), time.process_time()
    list(pool.map(lambda engine, seats: play_lines(engine, seats, sizes), engines, opened))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    generated = sum(engine.usage().generated for engine in engines) - before
    for engine, seats in zip(engines, opened, strict=True):
        engine.drop([branch for seat in seats for branch in seat])
    return generated / seconds, cpu / (len(engines) * sizes.dialogues * sizes.lines)


def _opened(engine: Engine, sizes: Sizes) -> list[list[int]]:
    """The branches of both seats of every dialogue, each with a different card."""
    rng = random.Random(0)
    cards = engine.encode([random_words(rng, CARD) for _ in range(2 * sizes.dialogues)])
    views = engine.open([card[:CARD] for card in cards])
    return [views[: sizes.dialogues], views[sizes.dialogues :]]


def print_actor_figures(figures: dict) -> None:
    """Prints the figures of `actor_figures` as a table."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from lab.store.console import Console

    machine, work, law = figures["machine"], figures["work"], figures["law"]
    table = Table(
        title=escape(
            f"{machine['model']} · {machine['device']} {machine['dtype']} · {machine['cores']} cores, "
            f"{machine['threads_an_actor']} an actor"
        ),
        box=box.SIMPLE_HEAD,
    )
    for column in ("actors", "tokens/s", "predicted", "driver, ms per line", "actors a driver feeds"):
        table.add_column(column, justify="right")
    for row in figures["actors"]:
        predicted = "fitted" if row["fitted"] else f"{row['predicted_tokens_per_s']:.1f}"
        table.add_row(
            str(row["actors"]),
            f"{row['tokens_per_s']:.1f}",
            predicted,
            f"{1000 * row['driver_s_per_line']:.2f}",
            f"{row['one_driver_feeds']:.0f}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"Each actor: {work['dialogues_an_actor']} dialogues of {work['lines']} lines of {work['tokens']} tokens, "
        f"medians of {REPEATS}. One alone makes {law['rate']:.1f} tokens/s, σ is {law['sigma']:.3f}. {law['room']} "
        "have room here, more gain nothing. On a cluster each brings its own, and the last column is the bound.",
        highlight=False,
    )
