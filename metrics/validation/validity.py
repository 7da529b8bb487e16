"""What a judge can see in the personas of one run, as a record (made by `metrics.validation.judge_validation`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import nan
from typing import Any

FLOOR = 0.6  # of AUROC's lower bound
FALSE_ALARMS = 0.05  # at which the threshold is given
NOTHING_PLANTED = "nothing could be planted in these personas"


@dataclass(frozen=True)
class Validity:
    """What a judge made of the planted lines, for one metric; NaN where it is undefined.

    `valid` is None where the judge scored no contradiction or no clean line, for the `reason`. `threshold` is the
    smallest p_inconsistent above which at most FALSE_ALARMS of the clean lines lie, and `recall_at_threshold` the share
    of contradictions above it; the judge's own verdicts are not changed by it.
    """

    judge: str
    metric: str
    valid: bool | None
    reason: str | None
    contradictions: int  # scored
    clean: int  # scored
    unscored: int
    auroc: float = nan
    auroc_low: float = nan
    auroc_high: float = nan
    recall: float = nan
    recall_low: float = nan
    recall_high: float = nan
    false_alarms: float = nan
    false_alarms_low: float = nan
    false_alarms_high: float = nan
    threshold: float = nan
    recall_at_threshold: float = nan

    def plain(self) -> dict:
        """The fields as plain data."""
        return asdict(self)

    @staticmethod
    def of_plain(row: Mapping[str, Any]) -> Validity:
        """The result from such fields, in which null stands for NaN, as in JSON."""
        values: dict[str, Any] = {}
        for field in fields(Validity):
            if field.name in row:
                null = row[field.name] is None and field.default is nan
                values[field.name] = nan if null else row[field.name]
        return Validity(**values)
