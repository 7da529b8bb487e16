"""The statistics under simulation: a small version of `lab.selftest --coverage`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lab.selftest import main
from lab.selftests import coverage
from lab.selftests.coverage import CONVERSATIONS, KINDS, LINES, Kind, draw, expected
from scenarios.records import derive_seed


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_lines_are_drawn_as_the_truth_says(kind):
    rng = np.random.default_rng(derive_seed(1, "drawn", kind.name))
    y = draw(kind, 40_000, LINES, rng)
    assert y.mean(0) == pytest.approx(expected(kind, LINES), abs=0.012)


def test_intervals_cover_the_truth(monkeypatch):
    monkeypatch.setattr(coverage, "CONVERSATIONS", (6, 24))
    monkeypatch.setattr(coverage, "KINDS", KINDS[1::2])
    found = coverage.coverage_rows(150, 3)
    by_figure: dict[str, list[float]] = {}
    for row in found:
        by_figure.setdefault(row["figure"], []).append(row["covered"])
    assert len(by_figure) == 5 and all(np.mean(covered) >= 0.93 for covered in by_figure.values()), by_figure
    assert min(min(covered) for covered in by_figure.values()) > 0.87, "150 runs each: .93 less three standard errors"


def test_tables_without_drift_are_seldom_marked_and_those_with_are(monkeypatch):
    monkeypatch.setattr(coverage, "CONVERSATIONS", (6, 24, 50))
    monkeypatch.setattr(coverage, "DRIFT", 0.015)
    rng = np.random.default_rng(5)
    calm, drifting = (Kind("", 0.2, 0.5, True, trend) for trend in (0.0, 0.015))
    assert sum(coverage._marked(calm, 6, rng) for _ in range(20)) <= 3
    assert sum(coverage._marked(drifting, 24, rng) for _ in range(6)) >= 4


def test_the_command_prints_and_keeps_every_table_and_fails_where_marks_are_too_many(monkeypatch, tmp_path, capsys):
    found = {
        "coverage": [
            {"figure": "slope", "lines": "rare", "conversations": c, "sims": 9, "covered": 0.95, "width": 0.1}
            for c in CONVERSATIONS
        ],
        "tables": [
            {"conversations": c, "drift": drift, "marked": 0.04 + drift, "sims": 400}
            for c in CONVERSATIONS[:3]
            for drift in (0.0, coverage.DRIFT)
        ],
        "verdicts": [{"tests": 1, "false_confirms": 0.02, "false_refutes": 0.01, "sims": 400}],
        "studies": [{"study": "x", "right": 1.0, "runs": 3}],
    }
    monkeypatch.setattr(coverage, "measured", lambda sims, seed: found)
    kept = tmp_path / "coverage.json"
    assert main(["--coverage", "--json", str(kept)]) == 0
    out = capsys.readouterr().out
    assert "0.950" in out and "0.040" in out and "0.020" in out and json.loads(kept.read_text())["tables"]
    found["tables"][0]["marked"] = 0.2
    assert main(["--coverage"]) == 1
