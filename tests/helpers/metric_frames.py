"""Frames of hand-written lines and judgements, as metrics get them."""

from __future__ import annotations

import polars as pl

JUDGED = {
    "run_id": pl.String,
    "conversation": pl.Int64,
    "turn": pl.Int64,
    "seat": pl.String,
    "metric": pl.String,
    "judge": pl.String,
    "against": pl.String,
    "p_inconsistent": pl.Float64,
    "verdict": pl.Boolean,
    "unscored": pl.String,
}


HOW = {"confidence": 0.95}


def turns_frame(lines):
    """A turns frame of (conversation, turn, seat)."""
    return pl.DataFrame(
        [
            {
                "run_id": "r",
                "conversation": c,
                "persona": "grace",
                "turn": t,
                "seat": seat,
                "node": "talk",
                "text": f"line {t}",
            }
            for c, t, seat in lines
        ],
        schema={
            "run_id": pl.String,
            "conversation": pl.Int64,
            "persona": pl.String,
            "turn": pl.Int64,
            "seat": pl.String,
            "node": pl.String,
            "text": pl.String,
        },
    )


def judgements_frame(rows):
    """Judgements of (conversation, turn, metric, against, verdict or None), user and ledger where not said
    otherwise.
    """
    filled = [
        {
            "run_id": "r",
            "conversation": c,
            "turn": t,
            "seat": rest[1] if rest[1:] else "user",
            "metric": metric,
            "judge": rest[0] if rest else "ledger",
            "against": against,
            "p_inconsistent": None if verdict is None else float(verdict),
            "verdict": verdict,
            "unscored": "empty line" if verdict is None else None,
        }
        for c, t, metric, against, verdict, *rest in rows
    ]
    return pl.DataFrame(filled, schema=JUDGED)


def lines(verdicts, conversation=0):
    """prompt_to_line rows at turns 0, 2, 4, ..."""
    return [(conversation, 2 * place, "prompt_to_line", "persona", verdict) for place, verdict in enumerate(verdicts)]


def only_row(frame, metric, level="run", **where):
    """The one row of that metric and level."""
    rows = frame.filter(
        pl.col("metric") == metric, pl.col("level") == level, *(pl.col(key) == value for key, value in where.items())
    )
    assert len(rows) == 1, rows
    return rows.row(0, named=True)
