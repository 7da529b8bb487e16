"""The front desk: commands, wiring, the conversation loop, the store, the monitor and the report.

In a notebook: `from lab import load_run` (see `lab.results.load`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.results.load import load_run as load_run


def __getattr__(name: str):
    if name != "load_run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lab.results.load import load_run  # which imports polars; `import lab` alone does not

    return load_run
