"""A fork compared with the run that it continues: figures from its first new turn on, and where the dialogues
diverge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import polars as pl

from lab.store.atomic_write import dumps, replace
from lab.store.event_log import read_events
from lab.store.frames import ends, judgements_frame, turns_frame
from lab.store.run_store import read_frames
from metrics.entry import MISSING, estimate_text
from metrics.judges import LINES
from scenarios.records import SEATS
from scenarios.yaml_files import read_yaml

ORIGINAL, RESULT = "original.jsonl", "fork.json"
HEADER = ("measure", "judge", "seat", "original", "branches")
PARTINGS = ("branch", "diverges at turn", "original", "branch says")
NEVER = "never"
NOTE = (
    "Cells are value [interval over branches] n, from the forked turn on. n counts branches for lines and "
    "contradicting lines, scored lines or pairs for shares, and questions for answers. The original is a single "
    "dialogue and has no interval."
)
LABELS = {
    "lines": "lines",
    "contradicting_lines": "contradicting lines",
    "share_prompt_to_line": "share of lines inconsistent with the persona",
    "share_line_to_line": "share of pairs inconsistent",
    "qa": "Q&A: answers right",
}
AT_FAULT = "contradicting_lines"
COUNTED = ("lines", AT_FAULT)  # per branch; the others are shares


@dataclass(frozen=True)
class ForkComparison:
    """The comparison of a fork's branches with the original conversation.

    - `rows`: measure (a key of LABELS), judge, seat, original, original_n, value, low, high, n; NaN where nothing was
      scored.
    - `partings`: branch, turn (None where the branch never diverges), and the lines of original and branch at that turn
      (None where there is none).
    """

    run: str  # id of the original
    conversation: int
    turn: int  # the first line that was played anew
    until: int  # the turn before which lines are compared
    branches: int  # compared, those that failed left out
    failed: list[int]
    rows: list[dict]
    partings: list[dict]


# -- once it is played


def store_comparison(path: Path) -> ForkComparison | None:
    """The comparison of a fork's folder, which is stored there as fork.json; None where the folder is no fork's.

    Raises ValueError where its copy of the original is damaged, StoreError where fork.json cannot be written.
    """
    if not (path / ORIGINAL).is_file():
        return None
    events, frames = read_events(path), read_frames(path)
    scenario = read_yaml(path / "scenario.yaml").data
    original = read_events(path, ORIGINAL)
    failed = sorted(event["conversation"] for event in ends(events).values() if event["status"] == "failed")
    before = {"turns": turns_frame("", original), "judgements": judgements_frame("", original)}
    after = {name: frames[name].filter(~pl.col("conversation").is_in(failed)) for name in ("turns", "judgements")}
    comparison = compare_branches(before, after, scenario["fork"], failed, confidence=scenario["measure"]["confidence"])
    replace(path / RESULT, dumps(asdict(comparison), indent=2) + b"\n")
    return comparison


def compare_branches(
    original: Mapping[str, pl.DataFrame],
    branches: Mapping[str, pl.DataFrame],
    fork: Mapping,
    failed: Sequence[int] = (),
    *,
    confidence: float,
) -> ForkComparison:
    """The comparison over the turns, from the fork's on, that both sides have; over the branches' turns where the
    original ends at the fork.

    The units of intervals are branches.
    """
    from metrics.stats.intervals import clustered_mean, plain
    from metrics.stats.shares import clustered_share

    turn, (was_long, is_long) = (
        fork["turn"],
        (1 + max(side["turns"]["turn"], default=0) for side in (original, branches)),
    )
    until = min(was_long, is_long) if was_long > turn else is_long
    here = (pl.col("turn") >= turn) & (pl.col("turn") < until)
    sides = [
        {name: frame.filter(here) for name, frame in {**side, AT_FAULT: _at_fault(side["judgements"])}.items()}
        for side in (original, branches)
    ]
    everyone = branches["turns"]["conversation"].unique().sort().to_list()
    rows = []
    for key, (was, now) in _values(sides[0], sides[1], everyone).items():
        if key[0] in COUNTED:
            interval = clustered_mean(now["y"], now["conversation"], confidence=confidence)
        else:
            interval = clustered_share(now["y"], now["conversation"], confidence=confidence)
        before = cast("float", was["y"].mean()) if len(was) else float("nan")
        names = dict(zip(("measure", "judge", "seat"), key, strict=True))
        rows.append(names | {"original": before, "original_n": len(was)} | plain(interval))
    return ForkComparison(
        fork["run"],
        fork["conversation"],
        turn,
        until,
        len(everyone),
        list(failed),
        rows,
        [_parting(sides[0]["turns"], sides[1]["turns"], branch) for branch in everyone],
    )


Values = dict[tuple[str, str | None, str], tuple[pl.DataFrame, pl.DataFrame]]


def _values(original: Mapping, branches: Mapping, everyone: Sequence[int]) -> Values:
    """measure, judge, seat -> (conversation, y) of the original and of the branches, in the order in which they are
    shown.
    """
    from metrics.reductions import of_metric

    alone = original["turns"]["conversation"].unique().to_list()
    values: Values = {}
    for seat in SEATS:
        lines = [side["turns"].filter(pl.col("seat") == seat) for side in (original, branches)]
        values["lines", None, seat] = _counts(lines[0], alone), _counts(lines[1], everyone)
    both = (original, branches)
    for judge, seat in _judges([side["judgements"].filter(pl.col("metric").is_in(LINES)) for side in both]):
        was, now = (_by_judge(side[AT_FAULT], judge, seat) for side in both)
        values[AT_FAULT, judge, seat] = _counts(was, alone), _counts(now, everyone)
    for metric in ("prompt_to_line", "line_to_line", "qa"):
        scored = [of_metric(side["judgements"], metric) for side in both]
        for judge, seat in _judges(scored):
            wrong = pl.col("verdict").cast(pl.Float64)
            was, now = (
                _by_judge(part, judge, seat)
                .filter(pl.col("verdict").is_not_null())
                .select("conversation", y=1 - wrong if metric == "qa" else wrong)
                for part in scored
            )
            values[metric if metric == "qa" else f"share_{metric}", judge, seat] = was, now
    return values


def _at_fault(judgements: pl.DataFrame) -> pl.DataFrame:
    """One row per contradicting line and judge."""
    from metrics.contradictions import contradicting

    return contradicting(judgements).filter(~pl.col("returns")).unique(["conversation", "turn", "judge"])


def _judges(parts: Sequence[pl.DataFrame]) -> list[tuple[str, str]]:
    """(judge, seat) of the scored rows, in the order in which they are shown."""
    scored = pl.concat(part.filter(pl.col("verdict").is_not_null()).select("judge", "seat") for part in parts)
    return sorted(scored.unique().rows(), key=lambda key: (key[0], SEATS.index(key[1])))


def _by_judge(rows: pl.DataFrame, judge: str, seat: str) -> pl.DataFrame:
    return rows.filter(pl.col("judge") == judge, pl.col("seat") == seat)


def _counts(rows: pl.DataFrame, conversations: Sequence[int]) -> pl.DataFrame:
    """How many rows each of the conversations has, 0 where none."""
    counted = dict(rows.group_by("conversation").len().rows())
    return pl.DataFrame(
        {"conversation": conversations, "y": [float(counted.get(c, 0)) for c in conversations]},
        schema={"conversation": pl.Int64, "y": pl.Float64},
    )


def _parting(original: pl.DataFrame, branches: pl.DataFrame, branch: int) -> dict:
    was = dict(original.select("turn", "text").rows())
    now = dict(branches.filter(pl.col("conversation") == branch).select("turn", "text").rows())
    parts = next((turn for turn in sorted(was.keys() | now.keys()) if was.get(turn) != now.get(turn)), None)
    return {"branch": branch, "turn": parts, "original": was.get(parts), "says": now.get(parts)}


# -- for people


def heading(comparison: ForkComparison) -> str:
    """What is compared, in one or two sentences."""
    failed = (
        f" Left out, since they failed: {', '.join(f'#{c}' for c in comparison.failed)}." if comparison.failed else ""
    )
    turns = f"turns {comparison.turn} to {comparison.until - 1}"
    return (
        f"Conversation {comparison.conversation} of {comparison.run}, from turn {comparison.turn} on: "
        f"{comparison.branches} branch{'es' * (comparison.branches != 1)}, {turns}.{failed}"
    )


def fork_rows(comparison: ForkComparison) -> Iterator[tuple[str, ...]]:
    """The cells of the rows under HEADER."""
    for row in comparison.rows:
        counted = row["measure"] in COUNTED
        digits = 1 if counted else 2
        alone = f"{row['original']:.0f}" if counted else f"{row['original']:.2f} n={row['original_n']}"
        original = alone if row["original_n"] else MISSING
        branches = estimate_text(row["value"], row["low"], row["high"], f"{{:.{digits}f}}".format)
        branches = f"{branches} n={row['n']}" if row["n"] else MISSING
        yield LABELS[row["measure"]], row["judge"] or MISSING, row["seat"], original, branches


def partings(comparison: ForkComparison) -> Iterator[tuple[str, str, str, str]]:
    """The cells of the rows under PARTINGS."""
    for parting in comparison.partings:
        turn = NEVER if parting["turn"] is None else f"{parting['turn']}"
        yield f"#{parting['branch']}", turn, parting["original"] or MISSING, parting["says"] or MISSING
