"""The rows of data sets of the Hugging Face hub, streamed by the optional package `datasets`."""

from __future__ import annotations

from collections.abc import Iterator

from scenarios.messages import first_line

HUB = "hf:"
EXTRA = "pip install 'dialogue-lab[datasets]'"


def hub_rows(name: str) -> Iterator[tuple[str, object]]:
    """(place, row) for the rows of a data set `hf:owner/name[/config][:split]`; the split is `train` where none is
    named.

    Raises ValueError where the name is none, or the library or the data set is missing.
    """
    dataset, _, split = name.removeprefix(HUB).partition(":")
    owner, _, rest = dataset.partition("/")
    short, _, config = rest.partition("/")
    if not owner or not short:
        raise ValueError(
            f"{name} names no data set; expected hf:owner/name, hf:owner/name:split or hf:owner/name/config"
        )
    try:
        from datasets import load_dataset
    except ImportError:
        raise ValueError(f"{name} needs the package datasets, which is not installed; expected it: {EXTRA}") from None
    try:
        stream = load_dataset(f"{owner}/{short}", config or None, split=split or "train", streaming=True)
        for number, row in enumerate(stream, start=1):
            yield f"row {number}", row
    except Exception as error:  # what the libraries below raise is theirs to choose
        raise ValueError(
            f"{name} cannot be read ({first_line(error)}); expected a data set of the hub, and a network"
        ) from None
