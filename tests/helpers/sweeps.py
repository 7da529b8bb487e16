"""Sweeps over scenarios whose seats read from scripts: no model is loaded, and a trial takes a second or two."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
from commands import ROOT, TIMEOUT_S, environment

CHITCHAT = ROOT / "scenarios/chitchat.yaml"
BAKER, NURSE = ["I am a baker.", "I live in Paris."], ["I am a nurse.", "I live in Rome."]
AXES = {"seats.user.script": [BAKER, NURSE], "seed": [1, 2]}
BASE = {
    "dtype": "float32",
    "conversations": 2,
    "turns": 6,
    "measure.qa_every": 100,
    "measure.judge": "ledger",
    "measure.metrics": ["prompt_to_line", "line_to_line"],
    "seats.assistant.script": ["Who are you?", "Really?"],
}
APART = ("attempts", "seconds", "node")  # columns of trials.parquet that differ from one sweep of a file to the next


def written(at: Path, axes: dict | None = None, overrides: dict | None = None, **keys: object) -> Path:
    """A sweep's file. JSON is YAML."""
    file = at / "small.yaml"
    file.write_text(
        json.dumps(
            {
                "name": "small",
                "seed": 5,
                "scenario": str(CHITCHAT),
                "overrides": BASE | (overrides or {}),
                "axes": axes or AXES,
            }
            | keys
        )
    )
    return file


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "lab.sweep", *map(str, arguments)]


def start(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def done(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S
    )


def events(sweep: Path, **like: object) -> list[dict]:
    """The sweep's events that say this."""
    recorded = map(json.loads, (sweep / "events.jsonl").read_text().splitlines())
    return [event for event in recorded if like.items() <= event.items()]


def trials(sweep: Path) -> pl.DataFrame:
    """trials.parquet without what differs from one sweep of a file to the next."""
    return pl.read_parquet(sweep / "trials.parquet").drop(APART)
