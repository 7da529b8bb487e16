"""Guards around libraries that read what strangers wrote: the errors that they raise, and calls of
`agents.models.bounded_work` in a process of its own.
"""

from __future__ import annotations

import functools
import json
import os
import struct
import subprocess
import sys
from typing import Any

from safetensors import SafetensorError

from agents.models import bounded_work
from scenarios.messages import first_line

# what libraries raise for damaged, incomplete, foreign or oversized files, beside ValueError
READING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    struct.error,
)
WAIT_S = 120  # for a busy machine: the process itself stops after `bounded_work.CPU_S` of computing


def bounded(work: str, **given: Any) -> Any:
    """The result of a function of `bounded_work`. Equal requests of a process are answered once.

    Raises ValueError, which says why, where it fails or takes more time or memory than it may.
    """
    return json.loads(
        _answer(json.dumps({"work": work, "cpu_s": bounded_work.CPU_S, **given}, sort_keys=True, default=str))
    )


@functools.lru_cache(maxsize=64)
def _answer(request: str) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-I", bounded_work.__file__],
            input=request,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            env=os.environ | {"RUST_BACKTRACE": "0", "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"it was not done after {WAIT_S} s") from None
    if done.returncode < 0:
        raise ValueError(
            f"it takes more than {bounded_work.CPU_S} s or {bounded_work.MEMORY_BYTES / 2**30:.0f} GiB of memory"
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise ValueError(first_line(Exception(lines[-1]), 300))
    return done.stdout
