"""What servers took for a run, in sentences."""

from __future__ import annotations

from collections.abc import Mapping


def spend_sentences(manifest: Mapping) -> list[str]:
    """For each model of a server its tokens and, with a price, what they cost; for several priced ones the sum too.

    What is not known is called unknown.
    """
    rows = manifest.get("spend", [])
    sentences = [f"{row['model']} at {row['endpoint']}: {_tokens(row)}{_cost(row)}" for row in rows]
    priced = [row["cost"] for row in rows if row["price"]]
    if len(priced) > 1:
        sentences.append(f"all priced models: cost {'unknown' if None in priced else _amount(sum(priced))}")
    return sentences


def _tokens(row: Mapping) -> str:
    if row["input_tokens"] is None:
        return f"tokens unknown, since {row['uncounted']:,} of {row['answers']:,} answers do not say how many"
    return f"{row['input_tokens']:,} tokens in, {row['output_tokens']:,} out, {row['answers']:,} answers"


def _cost(row: Mapping) -> str:
    if not row["price"]:
        return ""
    return ", cost " + ("unknown" if row["cost"] is None else _amount(row["cost"]))


def _amount(cost: float) -> str:
    return f"{cost:,.4f}" if cost < 100 else f"{cost:,.2f}"
