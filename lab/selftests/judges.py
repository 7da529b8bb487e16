"""The self-test of judges by name, with their models loaded in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab.selftests.planted_drift import Result, Size, selftest


def with_judges(names: Sequence[str], personas: str | Path, size: Size, seed: int, device: str = "auto") -> Result:
    """The self-test of these judges. `personas` is a persona file, `device` that of the models.

    Raises ValueError where a judge cannot be loaded or the file is invalid.
    """
    from agents.judge_models.embedder import Embedder
    from lab.dialogue import judges as wiring
    from scenarios.personas import load_personas
    from scenarios.schema import Measure

    cast, measure = load_personas(personas), Measure(judge=list(names))
    wiring.check_judges(measure)
    embed = Embedder(device=device).embed
    engines = {name: _engine(name, device) for name in wiring.judge_engines(measure)}
    return selftest(wiring.judges(measure, engines, device), cast, size, seed, embed=embed)


def _engine(name: str, device: str):
    """A model in this process."""
    from agents.engine.local import LocalEngine
    from agents.models.loading import load

    return LocalEngine(load(name, "auto", device))
