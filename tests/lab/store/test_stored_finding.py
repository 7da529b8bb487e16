"""The result of a study as it is stored: read as it was written, and refused in a sentence where it is damaged."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest

from lab.reports.finding_report import finding_sentences, finding_tables
from lab.store.finding import FINDING, finding_of

FIGURE = {"value": 0.5, "low": None, "high": 0.7, "n": 4}
RECORD = {
    "name": "interview",
    "claim": "personas hold",
    "source": "a paper",
    "model": "embedded",
    "adapter": None,
    "size": "quick",
    "statistic": "gap",
    **FIGURE,
    "controls": {"shuffled": True, "reversed": None},
    "verdict": "confirms",
    "reading": "They hold.",
    "why": "the interval lies above 0",
    "needed": None,
    "control_figures": {"shuffled": "0.1", "reversed": "0.2"},
    "tests": {"gap": {"found": FIGURE, "confirms": [0.1, None], "refutes": [None, 0]}},
    "measures": {"lines": FIGURE},
    "pictures": {"by_turn": {"title": "t", "x": "x", "y": "y", "curves": {"a": [[1, FIGURE]]}, "marks": {"b": 0}}},
    "tables": {"by seat": {"user": {"lines": FIGURE}}},
}
KEYS = (("claim",), ("controls",), ("controls", "shuffled"), ("measures", "lines"), ("measures", "lines", "n"),
        ("tests", "gap"), ("tests", "gap", "confirms"), ("pictures", "by_turn", "curves", "a"),
        ("pictures", "by_turn", "marks"), ("tables", "by seat", "user"))  # fmt: skip


def refusal(folder, data: bytes) -> str:
    (folder / FINDING).write_bytes(data)
    with pytest.raises(ValueError) as refused:
        finding_of(folder)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def test_a_finding_is_read_as_it_was_written(tmp_path):
    (tmp_path / FINDING).write_text(json.dumps(RECORD))
    finding = finding_of(tmp_path)
    assert json.loads(json.dumps(finding)) == RECORD
    assert finding_sentences(finding)[0] == "confirms: the interval lies above 0."
    assert len(finding_tables(finding)) == 4
    assert finding_of(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("value", [[[]], -1, {"a": {"b": []}}], ids=["list", "int", "object"])
@pytest.mark.parametrize("keys", KEYS, ids=".".join)
def test_a_value_of_another_type_is_a_sentence_with_its_key(tmp_path, keys, value):
    record = deepcopy(RECORD)
    within = record
    for key in keys[:-1]:
        within = within[key]
    within[keys[-1]] = value
    told = refusal(tmp_path, json.dumps(record).encode())
    assert keys[-1] in told and "expected" in told


def test_control_characters_of_a_wrong_value_are_not_repeated(tmp_path):
    assert "\x1b" not in refusal(tmp_path, json.dumps({**RECORD, "measures": "\x1b]0;x\x07"}).encode())


def test_what_is_no_finding_is_refused(tmp_path):
    assert "is not JSON" in refusal(tmp_path, b"{")
    assert "nested too deep" in refusal(tmp_path, b"[" * 10**6)
    assert "has no claim" in refusal(
        tmp_path, json.dumps({key: RECORD[key] for key in RECORD if key != "claim"}).encode()
    )
    assert "control_figures" in refusal(tmp_path, json.dumps({**RECORD, "control_figures": {}}).encode())


def test_the_name_of_a_picture_leads_nowhere(tmp_path):
    pictures = {"../../by_turn": RECORD["pictures"]["by_turn"]}
    assert "by_turn" in refusal(tmp_path, json.dumps({**RECORD, "pictures": pictures}).encode())
