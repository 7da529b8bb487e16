"""A lab of long dialogues between persona-holding assistants and user simulators.

    import lab

    run = lab.play("long_dialogue", {"conversations": 2, "turns": 12})
    run.metrics                                                  # a polars frame

`load_scenario`, `play`, `fit`, `judge`, `compare`, `load_run` and `read_personas` do for scripts and notebooks what the
commands (`python -m lab`) do; docs/python.md shows them. `import lab` alone loads none of the libraries behind them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.api.calls import compare, fit, judge, load_scenario, play, read_personas
    from lab.results.load import Run, load_run

__all__ = ["Run", "compare", "fit", "judge", "load_run", "load_scenario", "play", "read_personas"]

if not TYPE_CHECKING:
    HOMES = {"Run": "lab.results.load", "load_run": "lab.results.load"}

    def __getattr__(name: str):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(HOMES.get(name, "lab.api.calls")), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
