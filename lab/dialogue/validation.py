"""What judges can see in a run's personas (`metrics.validation.judge_validation`), as an event before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from metrics.catalogue import needed
from metrics.judges import LINES, Judge
from metrics.validation.judge_validation import validities
from metrics.validation.persona_plants import plants
from scenarios.records import Persona
from scenarios.schema import Measure


def validation_events(
    measure: Measure,
    judges: Sequence[Judge],
    cast: Iterable[Mapping[str, Persona]],
    seed: int,
    earlier: Iterable[dict] = (),
) -> Iterator[dict]:
    """The events `phase` and `validated`; none where `measure.validate` is false, where no metric reads judgements of
    lines, or where the `earlier` events hold the result already.
    """
    metrics = needed(measure.metrics) & set(LINES)
    if not measure.validated or not metrics or any(event["event"] == "validated" for event in earlier):
        return
    yield {"event": "phase", "phase": "validating", "detail": ", ".join(judge.name for judge in judges)}
    planted, omitted = plants(cast, seed)
    results = validities(judges, planted, metrics, confidence=measure.confidence)
    yield {"event": "validated", "rows": [result.plain() for result in results], "omitted": omitted}
