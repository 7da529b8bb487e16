"""The format of finding.json, the result of a study, and how a stored one is checked."""

# Annotations are not postponed here: what is required follows from NotRequired itself.

from functools import cache
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter

from lab.store.fields import CONFIG, Amount, Many, Record, read_record

FINDING = "finding.json"
Name = Annotated[str, Field(pattern=r"^[\w -]{1,100}$")]  # which becomes the name of a file
Bound = float | None  # None for what is not known, or an open end
Bounds = Annotated[list[Bound], Field(min_length=2, max_length=2)]


class IntervalRecord(Record):
    """A figure of the finding; null for NaN."""

    value: Bound
    low: Bound
    high: Bound
    n: Amount


class Tested(Record):
    """A test: what was found, and the ranges of values that confirm and refute the claim."""

    found: IntervalRecord
    confirms: Bounds
    refutes: Bounds


Point = Annotated[tuple[float | str, IntervalRecord], Field(strict=False)]  # a list in JSON


class PictureRecord(Record):
    """The fields of `metrics.studies.protocol.Picture`."""

    title: str
    x: str
    y: str
    curves: dict[str, Many[Point]]
    marks: dict[str, Bound]


class FindingRecord(Record):
    """The fields that are read; others are kept as they are. All follow from `lab.studies.runner.finding_record`."""

    __pydantic_config__ = {**CONFIG, "extra": "allow"}  # pyright: ignore[reportGeneralTypeIssues]

    verdict: str
    why: str
    reading: str
    claim: str
    source: str
    model: str
    adapter: NotRequired[str | None]
    size: str
    statistic: str
    value: Bound
    low: Bound
    high: Bound
    n: Amount
    controls: dict[str, bool | None]
    control_figures: dict[str, str]
    tests: dict[str, Tested]
    measures: dict[str, IntervalRecord]
    pictures: dict[Name, PictureRecord]
    tables: NotRequired[dict[str, dict[str, dict[str, IntervalRecord]]]]


def finding_of(folder: Path) -> dict | None:
    """The content of finding.json; None where the folder has none (yet). Raises ValueError where it is damaged."""
    file = folder / FINDING
    if not file.is_file():
        return None
    finding = read_record(file, _schema(), "the result of a study")
    if strange := set(finding["controls"]) ^ set(finding["control_figures"]):
        raise ValueError(f"{file}: controls and control_figures differ in {min(strange)!r}; expected the same names")
    return finding


@cache
def _schema() -> TypeAdapter[Any]:
    return TypeAdapter(FindingRecord)
