"""Many dialogues in one run: time grows with their number, and memory by little a dialogue."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import LONG, NOBODY_TALKS, ROOT, environment

FEW, MANY = 60, 240
MIB_EACH = 0.6  # of a dialogue of 40 lines and some 290 judgements; 0.32 measured
PLAY = """
import resource, sys, time
import lab.reports.write
from lab.run import main
lab.reports.write.write_report = lambda path: path  # drawing is no matter here
assert main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.process_time(), file=sys.stderr)
"""


def played(dialogues: int, runs: Path) -> tuple[float, float]:
    """Most memory in MiB, and seconds of computing, of a run in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            PLAY,
            LONG,
            *NOBODY_TALKS,
            "turns=40",
            f"conversations={dialogues}",
            "--display",
            "none",
            "--runs",
            str(runs),
        ],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    memory, seconds = map(float, done.stderr.split())
    return memory, seconds


@pytest.mark.slow
def test_a_run_of_many_dialogues_takes_time_by_their_number_and_little_memory_for_each(tmp_path):
    """Half a minute."""
    (memory, seconds), (more, longer) = played(FEW, tmp_path / "few"), played(MANY, tmp_path / "many")
    assert (more - memory) / (MANY - FEW) < MIB_EACH
    assert longer < 1.3 * MANY / FEW * seconds
