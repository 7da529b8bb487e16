"""Sends the figures of a training to TensorBoard or Weights & Biases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def reporter(to: str, folder: Path) -> Iterator[Callable[[dict], None]]:
    """A context that gives a function which sends the numbers of a `step` event; it does nothing for "none".

    `to` is none, tensorboard (written below `folder`) or wandb. Raises ValueError where its package is not installed.
    """
    if to == "none":
        yield lambda event: None
        return
    try:
        if to == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(folder / "tensorboard"))
            add, close = writer.add_scalar, writer.close
        else:
            import wandb  # pyright: ignore[reportMissingImports]  # not needed for tests

            run = wandb.init(project="dialogue-lab", name=folder.name, dir=str(folder))
            add, close = (lambda name, value, step: run.log({name: value}, step=step)), run.finish
    except ImportError as error:
        raise ValueError(
            f"report_to {to!r}: {error.name or to} is not installed; expected pip install {to}, or report_to: none"
        ) from None

    def report(event: dict) -> None:
        for name, value in event.items():
            if name != "step" and isinstance(value, (int, float)) and value == value:
                add(name, value, event["step"])

    try:
        yield report
    finally:
        close()
