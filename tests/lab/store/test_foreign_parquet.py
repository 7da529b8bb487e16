"""Parquet files from anybody: what they declare is bounded, what is damaged is a sentence."""

from __future__ import annotations

import io
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from lab.persona_files.reading import read_people
from lab.store import foreign_parquet
from lab.store.foreign_parquet import parquet_rows
from lab.transcripts.reading import read_transcripts

FRAME = pl.DataFrame(
    {
        "messages": [[{"role": "user", "content": "Hi.", "none": None}], [], None],
        "kind": pl.Series(["a", "b", "a"], dtype=pl.Categorical),
        "number": pl.Series([1, 2, 3], dtype=pl.Int8),
        "with.point": [["x", None], [], ["y"]],
    }
)


def rows(data: bytes, most: int = 10) -> list[dict]:
    return list(parquet_rows(Path("sent.parquet"), data, lambda columns: columns, most))


def written(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def small_that_declares_much(path: Path, texts: int) -> Path:
    """One text of 1 MiB, and places that all name it: in one row as messages, and in rows of their own as text."""
    same = pa.DictionaryArray.from_arrays(pa.array([0] * texts, pa.int32()), pa.array(["x" * 2**20]))
    said = pa.StructArray.from_arrays([pa.array(["user"] * texts), same], ["role", "content"])
    row = pa.ListArray.from_arrays(pa.array([0, texts]), said)
    columns = {"messages": row} if path.stem == "transcripts" else {"text": same}
    parquet.write_table(pa.table(columns), path, compression="zstd")
    return path


def test_rows_are_those_of_the_file():
    assert rows(written(FRAME)) == FRAME.to_dicts() and rows(written(FRAME), 2) == FRAME.to_dicts()[:2]


@pytest.mark.parametrize(("name", "read"), [("transcripts", read_transcripts), ("personas", read_people)])
def test_a_small_file_of_endless_text_is_refused_at_once(name, read, tmp_path):
    path = small_that_declares_much(tmp_path / f"{name}.parquet", 100_000)
    began = time.thread_time()
    with pytest.raises(ValueError, match="holds more than 512 MiB of text; expected a part of it"):
        read(path)
    assert path.stat().st_size < 100_000 and time.thread_time() - began < 2


def test_more_values_than_can_be_kept_are_refused_by_what_the_file_says(monkeypatch):
    monkeypatch.setattr(foreign_parquet, "MOST_VALUES", 2)
    with pytest.raises(ValueError, match="says that it holds 3 values of a column and 0 MiB; expected at most 2"):
        rows(written(FRAME.select("number")))


def test_a_damaged_file_is_a_sentence_wherever_it_is_damaged():
    whole, sentences = written(FRAME), []
    for place in range(0, len(whole), 7):
        try:
            rows(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        except ValueError as error:
            sentences.append(str(error))
    assert len(sentences) > 20 and all("sent.parquet" in said and "\n" not in said for said in sentences)
