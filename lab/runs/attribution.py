"""Which seat causes a difference: a stored run is played again from one turn on, with new settings in either seat, both
or neither.

Every arm begins with the same stored lines and uses the same seeds, so that arms differ by their settings alone. The
measure is inconsistency: the share of lines from that turn on that contradict their speaker's persona, 0 to 1. The
effect of a seat is what its new settings add, averaged over the other seat's settings; the interaction is what both add
together beyond the sum of their effects (`metrics.stats.differences.factorial`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from lab.store.event_log import read_events
from lab.store.frames import reached
from lab.store.output import say
from lab.store.run_store import read_manifest
from metrics.entry import MISSING, estimate_text
from scenarios import personas as people
from scenarios.records import SEATS
from scenarios.scenario import Scenario, load_scenario

ARMS = ("AA", "AB", "BA", "BB")  # the user's settings, then the assistant's: A as stored, B as overridden
EVERYONE = "both"
RESULT = "attribution.json"
PLAYED = {
    "AA": "both seats as stored",
    "AB": "the assistant's settings new",
    "BA": "the user's settings new",
    "BB": "both seats' settings new",
}
NOTE = (
    "Positive: the new settings bring more lines that contradict their speaker. user, assistant: what that seat's new "
    "settings add, averaged over the other seat's; interaction: what both add beyond the sum. n: conversations. In the "
    "columns of the arms (A as stored, B new; the user's first): inconsistency from turn {turn} on, and the lines "
    "scored."
)


def scenarios(run: str | Path, overrides: Sequence[str]) -> dict[str, Scenario]:
    """The scenario of each arm of ARMS. Raises ValueError without overrides, and for an override of no seat."""
    stored = Path(run) / "scenario.yaml"
    read_manifest(run)
    for override in overrides:
        if not override.startswith(tuple(f"seats.{seat}." for seat in SEATS)):
            raise ValueError(
                f"override {override!r} is of no seat; expected seats.user.KEY=VALUE or seats.assistant.KEY=VALUE"
            )
    if not overrides:
        raise ValueError("nothing was changed; expected settings of a seat, such as seats.user.temperature=1.2")
    by_arm = {}
    for arm in ARMS:
        changed = {seat for seat, setting in zip(SEATS, arm, strict=True) if setting == "B"}
        by_arm[arm] = load_scenario(stored, [override for override in overrides if override.split(".")[1] in changed])
    return by_arm


def beginning(run: str | Path, turn: int, scenario: Scenario) -> list[dict]:
    """The stored events before that turn with which an arm of this scenario begins.

    Judgements are included unless a seat has another persona, against which the lines have to be judged again. Raises
    ValueError where no conversation has as many lines, or the scenario has no such turn.
    """
    recast = people.cast(scenario) != people.cast(load_scenario(Path(run) / "scenario.yaml"))
    kept = events_before(read_events(run), turn, scenario, recast)
    if not reached(kept, turn):
        raise ValueError(f"{run} has no conversation of {turn} lines; expected a turn that it has reached")
    return kept


def events_before(events: Sequence[dict], turn: int, scenario: Scenario, recast: bool) -> list[dict]:
    """The events of lines before that turn, and of their judgements unless a seat has another persona (`recast`).

    Raises ValueError where the scenario has no such turn.
    """
    if not 1 <= turn < scenario.turns:
        raise ValueError(f"turn {turn}: expected 1 to {scenario.turns - 1}, a turn of the scenario after its first")
    kinds = ("line",) if recast else ("line", "judged")
    return [event for event in events if event["event"] in kinds and event["turn"] < turn]


def attribute(run: str | Path, judgements: Mapping[str, pl.DataFrame], turn: int, *, confidence: float) -> list[dict]:
    """One row per judge, seat whose lines are scored, and effect, from `judgements` by arm.

    - `lines`: "both", "user" or "assistant"; `effect`: "user", "assistant" or "interaction".
    - `value`, `low`, `high`: the inconsistency that the new settings add, -1 to 1 (-2 to 2 for the interaction).
    - `n`: conversations that all arms have scored.
    - `inconsistency`: by arm, 0 to 1; `scored`: lines, by arm.
    """
    from metrics.conversation_sums import mean
    from metrics.reductions import of_metric
    from metrics.stats.differences import factorial

    whole = reached(read_events(run), turn)
    scored = {
        arm: of_metric(rows, "prompt_to_line").filter(
            pl.col("turn") >= turn, pl.col("verdict").is_not_null(), pl.col("conversation").is_in(whole)
        )
        for arm, rows in judgements.items()
    }
    names: dict[str, str] = dict(zip(("first", "second", "interaction"), (*SEATS, "interaction"), strict=True))
    rows = []
    for judge in sorted(set.intersection(*(set(part["judge"]) for part in scored.values()))):
        for lines in (EVERYONE, *SEATS):
            sums = _sums(
                {
                    arm: part.filter(pl.col("judge") == judge, (pl.lit(lines) == EVERYONE) | (pl.col("seat") == lines))
                    for arm, part in scored.items()
                }
            )
            effects = factorial(sums, mean, confidence=confidence)
            by_arm = {arm: float(mean(part.sum(0, keepdims=True))[0, 0]) for arm, part in sums.items()}
            scored_lines = {arm: int(part[:, 1].sum()) for arm, part in sums.items()}
            rows += [
                {
                    "judge": judge,
                    "lines": lines,
                    "effect": names[name],
                    "value": effect.value,
                    "low": effect.low,
                    "high": effect.high,
                    "n": effect.n,
                    "inconsistency": by_arm,
                    "scored": scored_lines,
                }
                for name, effect in effects.items()
            ]
    return rows


def play_arms(
    arms: Mapping[str, Scenario],
    begun: Mapping[str, Sequence[dict]],
    out: Path,
    *,
    address: str | None,
    display: str,
) -> tuple[dict[str, Path], int]:
    """Plays the four arms as runs below `out`, each from its events `begun`; arms with equal scenarios are played once.

    Returns the folders by arm and 0, or, where an arm did not finish, no folders and its exit code.
    """
    from lab.runs.runner import begin

    paths: dict[str, Path] = {}  # by digest
    for arm, scenario in arms.items():
        if scenario.digest() not in paths:
            if display != "none":
                alike = " and ".join(other for other in arms if arms[other].digest() == scenario.digest())
                say(f"arm {alike}: {PLAYED[arm]}", flush=True)
            path, code = begin(out, scenario, begun[arm], address=address, display=display)
            if code:
                return {}, code
            paths[scenario.digest()] = path
    return {arm: paths[scenario.digest()] for arm, scenario in arms.items()}, 0


def write_attribution(
    run: str | Path,
    turn: int,
    overrides: Sequence[str],
    arms: Mapping[str, Scenario],
    folders: Mapping[str, Path],
    out: Path,
) -> tuple[list[dict], Path]:
    """Writes attribution.json into `out`. Returns the rows of `attribute` and the path of the file.

    Raises ValueError where no line was scored in all four arms, StoreError where it cannot be written.
    """
    from lab.store.atomic_write import dumps, replace
    from lab.store.run_store import read_frames

    how = arms["AA"].measure
    judgements = {arm: read_frames(path)["judgements"] for arm, path in folders.items()}
    rows = attribute(run, judgements, turn, confidence=how.confidence)
    if not rows:
        raise ValueError(
            f"no line from turn {turn} on was scored in all four arms of {out}; expected prompt_to_line among "
            "measure.metrics"
        )
    first = [row for row in rows if row["judge"] == how.judge[0] and row["lines"] == EVERYONE]
    result = {row["effect"]: {key: row[key] for key in ("value", "low", "high", "n")} for row in first}
    result |= {
        "judge": how.judge[0],
        "turn": turn,
        "overrides": list(overrides),
        "run": str(run),
        "arms": {arm: path.name for arm, path in folders.items()},
        "rows": rows,
    }
    replace(out / RESULT, dumps(result, indent=2) + b"\n")
    return rows, out / RESULT


def print_attribution(rows: Sequence[dict], turn: int, path: Path) -> None:
    """Prints the rows of `attribute` as a table, and the path of attribution.json."""
    from rich.table import Table

    from lab.reports.comparison_tables import PIPED_WIDTH, TOO_FEW
    from lab.reports.headline import FEW
    from lab.store.console import Console

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    header = ("judge", "lines of", "effect of", "inconsistency added [interval]", "n", *ARMS)
    table = Table(*header, box=None, header_style="dim", pad_edge=False)
    for row in rows:
        arms = (f"{row['inconsistency'][arm]:.3f} ({row['scored'][arm]})" if row["n"] else MISSING for arm in ARMS)
        value = estimate_text(row["value"], row["low"], row["high"], "{:+.3f}".format) if row["n"] else MISSING
        table.add_row(row["judge"], row["lines"], row["effect"], value, str(row["n"]), *arms)
    console.print(table)
    console.print(NOTE.format(turn=turn) + (f" {TOO_FEW}" if max(row["n"] for row in rows) < FEW else ""), style="dim")
    console.print(str(path), soft_wrap=True)


def _sums(scored: Mapping[str, pl.DataFrame]) -> dict:
    """By arm, (contradicting, scored) lines, (C, 2), of the conversations that every arm has scored, in the same
    order.
    """
    counts = {
        arm: {
            c: (float(bad), float(n))
            for c, bad, n in part.group_by("conversation").agg(bad=pl.col("verdict").sum(), n=pl.len()).iter_rows()
        }
        for arm, part in scored.items()
    }
    common = sorted(set.intersection(*(set(by_conversation) for by_conversation in counts.values())))
    return {
        arm: np.array([by_conversation[c] for c in common]).reshape(len(common), 2)
        for arm, by_conversation in counts.items()
    }
