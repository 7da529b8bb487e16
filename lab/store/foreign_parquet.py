"""Parquet files from anybody. A small one may declare texts without end, so texts are read as places in a dictionary
and added up before any of them is written out.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scenarios.messages import first_line

PARQUET = b"PAR1"  # how such a file begins and ends
MOST_VALUES = 2**24  # of a column
MOST_TEXT = 2**29  # bytes of all texts, each counted where it stands
ROWS_AT_ONCE = 1000
ARROW_TYPES, IGNORED = b"ARROW:schema", b"arrow:ignore"  # a key of the footer, and one as long that nobody reads


def parquet_rows(
    path: Path, data: bytes, columns_of: Callable[[Sequence[str]], Sequence[str]], most_rows: int
) -> Iterator[dict[str, Any]]:
    """The first `most_rows` rows of a parquet file, with the columns that `columns_of` chooses from those it has.

    Values have the types that parquet itself knows; the types that Arrow notes in the footer, among them extensions
    that are more than data, are not read. Raises ValueError, with the path and what was expected, where the file is
    damaged or holds more than MOST_VALUES values or MOST_TEXT bytes of text.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile, read_metadata

    start = max(0, len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
    data = data[:start] + data[start:].replace(ARROW_TYPES, IGNORED)
    try:
        declared = read_metadata(io.BytesIO(data))
        columns = columns_of(declared.schema.to_arrow_schema().names)
        leaves = _leaves(path, declared, columns)
        texts = [name for name, is_text in leaves.items() if is_text]
        file = ParquetFile(io.BytesIO(data), read_dictionary=texts)
        rows = total = 0
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(leaves), use_threads=False):
            total += sum(map(_text_bytes, batch.columns))
            if total > MOST_TEXT:
                raise ValueError(f"{path} holds more than {MOST_TEXT >> 20} MiB of text; expected a part of it")
            yield from batch.slice(0, most_rows - rows).to_pylist()
            rows += batch.num_rows
            if rows >= most_rows:
                return
    except (ArrowException, OSError, OverflowError) as error:
        raise ValueError(f"{path} is a damaged parquet file ({first_line(error)}); expected a whole one") from None


def _leaves(path: Path, declared: Any, columns: Sequence[str]) -> dict[str, bool]:
    """By path within the columns, whether a leaf is text. Raises ValueError where they are said to hold too much;
    `declared` is pyarrow's FileMetaData.
    """
    leaves: dict[str, bool] = {}
    values: dict[str, int] = {}
    size = 0
    for place in range(declared.num_columns):
        name = declared.schema.column(place).path
        if any(name == column or name.startswith(f"{column}.") for column in columns):
            leaves[name] = declared.schema.column(place).physical_type == "BYTE_ARRAY"
            for group in range(declared.num_row_groups):
                chunk = declared.row_group(group).column(place)
                values[name] = values.get(name, 0) + chunk.num_values
                size += chunk.total_uncompressed_size
    most = max(values.values(), default=0)
    if most > MOST_VALUES or size > MOST_TEXT:
        raise ValueError(
            f"{path} says that it holds {most:,} values of a column and {size >> 20} MiB; expected at most "
            f"{MOST_VALUES:,} and {MOST_TEXT >> 20} MiB"
        )
    return leaves


def _text_bytes(column: Any) -> int:
    """The bytes of all texts of a pyarrow array, those in lists and structs included."""
    import pyarrow as pa
    from pyarrow import compute

    kind = column.type
    if pa.types.is_dictionary(kind):
        lengths = compute.binary_length(column.dictionary).cast(pa.int64())
        return compute.sum(lengths.take(column.indices)).as_py() or 0
    if pa.types.is_struct(kind):
        return sum(map(_text_bytes, column.flatten()))
    if pa.types.is_map(kind):
        return _text_bytes(column.keys) + _text_bytes(column.items)
    if pa.types.is_list(kind):
        return _text_bytes(column.flatten())
    return 0
