"""The tables of a finding, from its record."""

from __future__ import annotations

from lab.reports.finding_report import finding_tables


def test_a_control_passed_failed_or_is_unclear():
    figures = {"a": "0.9", "b": "0.1", "c": "0.3"}
    finding = {
        "tests": {},
        "controls": {"a": True, "b": False, "c": None},
        "control_figures": figures,
        "measures": {},
    }
    (controls,) = [table for table in finding_tables(finding) if table.title == "Controls"]
    assert controls.rows == [("a", "passed", "0.9"), ("b", "FAILED", "0.1"), ("c", "unclear", "0.3")]
