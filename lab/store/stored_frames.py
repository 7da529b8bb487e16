"""Parquet files of a run's folder, which may come from anybody: their size, columns, types and values are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import polars as pl

from scenarios.input_files import regular
from scenarios.messages import first_line
from scenarios.records import SEATS

if TYPE_CHECKING:
    from polars.datatypes import DataTypeClass

Schema = Mapping[str, "pl.DataType | DataTypeClass"]
MOST_ROWS = 2**25
MOST_BYTES = 2**32  # of all columns, uncompressed
MOST_PLACE = 10_000_000  # conversations, turns and steps are below
LEVELS = ("turn", "conversation", "run")
_PLACE = f"a whole number from 0 to {MOST_PLACE - 1:,}"
_RULES: dict[str, tuple[Callable[[pl.Expr], pl.Expr], str]] = {  # column -> what its values are, and that in words
    "conversation": (lambda column: column.is_between(0, MOST_PLACE - 1), _PLACE),
    "turn": (lambda column: column.is_between(0, MOST_PLACE - 1), _PLACE),
    "step": (lambda column: column.is_between(0, MOST_PLACE - 1), _PLACE),
    "tokens": (lambda column: column >= 0, "0 or more"),
    "n": (lambda column: column >= 0, "0 or more"),
    "seat": (lambda column: column.is_in(SEATS), " or ".join(SEATS)),
    "level": (lambda column: column.is_in(LEVELS), f"one of {', '.join(LEVELS)}"),
    "p_inconsistent": (lambda column: column.is_between(0, 1), "a number from 0 to 1, or none"),
}
_TURNS_ALONE = (  # of judgements: what a row of this metric is against
    (pl.col("metric") != "line_to_line") | pl.col("against").str.contains(r"^[0-9]{1,7}$")
)
_MEASURED = frozenset({"judge", "value", "low", "high"})
NULLS = {  # file -> columns in which a value may be missing
    "turns": frozenset({"logprob"}),
    "judgements": frozenset({"p_inconsistent", "verdict", "unscored"}),
    "metrics": _MEASURED | {"conversation", "turn"},
    "evaluation": _MEASURED | {"people", "reduction", "reduction_low", "reduction_high", "unscored", "failed"},
    "comparison": _MEASURED | {"a", "b", "detectable"},
    "trials": frozenset({"reason", "lines", "failed_conversations", "steps", "seconds", "node"}),
}


class DamagedFrame(ValueError):
    """A file that is no parquet file, or no whole one."""


def read_stored(file: Path, schema: Schema, *, optional: bool = False) -> pl.DataFrame:
    """The frame in a parquet file, with the columns of `schema` and any others. With `optional`, a frame without rows
    where there is no such file.

    Raises DamagedFrame where the file cannot be read, and ValueError where it is too large, lacks a column, or holds a
    value of another type or range, with the file, the column and row, what is there and what was expected.
    """
    if optional and not file.is_file():
        return pl.DataFrame(schema=dict(schema))
    try:
        with regular(file, "a parquet file of a run") as source:
            _check_size(file, source)
            frame = pl.read_parquet(source)
    except (pl.exceptions.PolarsError, OSError, OverflowError) as error:
        raise DamagedFrame(f"{file} is damaged ({first_line(error)}); expected it as it was written") from None
    if missing := [name for name in schema if name not in frame.columns]:
        raise ValueError(f"{file} has no column {missing[0]}; expected the columns {', '.join(schema)}")
    nulls = NULLS.get(file.stem, frozenset())
    frame = frame.with_columns(  # of columns that are all null, as inferred
        pl.col(name).cast(schema[name]) for name in nulls & schema.keys() if frame[name].dtype == pl.Null
    )
    for name, kind in schema.items():
        if frame[name].dtype != kind:
            expected = pl.Series(dtype=kind).dtype
            raise ValueError(f"{file}, column {name}: holds {frame[name].dtype}; expected {expected}")
    _check_values(file, frame, schema)
    return frame


def read_steps(file: Path) -> pl.DataFrame:
    """training.parquet: `step`, the texts `seat` and `note`, and figures. Raises as `read_stored` does."""
    frame = read_stored(file, {"step": pl.Int64})
    for name, kind in frame.schema.items():
        text = name in ("seat", "note")
        if not (kind == pl.String if text else kind.is_numeric()):
            raise ValueError(f"{file}, column {name}: holds {kind}; expected {'text' if text else 'numbers'}")
    return frame


def _check_size(file: Path, source: IO[bytes]) -> None:
    """Raises ValueError where the file says that it holds too much."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_metadata

    try:
        declared = read_metadata(source)
        size = sum(declared.row_group(group).total_byte_size for group in range(declared.num_row_groups))
    except ArrowException as error:
        raise DamagedFrame(f"{file} is damaged ({first_line(error)}); expected it as it was written") from None
    if declared.num_rows > MOST_ROWS or size > MOST_BYTES:
        raise ValueError(
            f"{file} says that it holds {declared.num_rows:,} rows and {size >> 20} MiB; expected at most "
            f"{MOST_ROWS:,} and {MOST_BYTES >> 20} MiB"
        )
    source.seek(0)


def _check_values(file: Path, frame: pl.DataFrame, schema: Schema) -> None:
    rules = {name: _RULES[name] for name in schema if name in _RULES}
    wrong: dict[str, pl.Expr] = {name: ~rule(pl.col(name)) for name, (rule, _) in rules.items()}
    for name in schema:
        if name not in NULLS.get(file.stem, ()):
            wrong[name] = wrong[name].fill_null(value=True) if name in wrong else pl.col(name).is_null()
    if {"metric", "against"} <= schema.keys():
        wrong["against"] = wrong["against"] | ~_TURNS_ALONE
    counts = frame.select(expression.sum().alias(name) for name, expression in wrong.items()).row(0, named=True)
    for name, count in counts.items():
        if count:
            row = frame.select(wrong[name].fill_null(value=False).arg_max()).item()
            words = rules[name][1] if name in rules else "a value"
            if name == "against" and frame[name][row] is not None:
                words = "an earlier turn in digits, since the metric is line_to_line"
            raise ValueError(f"{file}, column {name}: row {row} holds {frame[name][row]!r:.60}; expected {words}")
