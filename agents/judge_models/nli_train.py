"""Trains a head of the embedded NLI model and writes its weights beside this file.

`python -m agents.judge_models.nli_train` trains the head for claims of facts, nli_head.safetensors, on sentences
generated from slots (`nli_data`). With `--cards` it trains the head for statements of any kind,
nli_cards_head.safetensors, on those and on written persona cards (`nli_cards`). It prints the held-out figures, and
takes some ten minutes on two cores. Held out are every fifth value of each slot, the slots and opposites that
nli_slots.yaml names, and every fifth written card.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from scipy.stats import binomtest
from torch import nn

from agents.judge_models.nli_cards import card_examples, cards, within_lines
from agents.judge_models.nli_data import CONTRADICTION, LABELS, Example, corpora, examples
from agents.judge_models.nli_head import CARD_WEIGHTS, WEIGHTS, EmbeddedNli, Head, padded, states
from scenarios.records import derive_seed

PAIRS, TEST_PAIRS = 24_000, 1_500
EPOCHS, BATCH, LEARNING_RATE, SMOOTHING = 6, 128, 2e-3, 0.05


def train(pairs: Sequence[Example], seed: int, epochs: int = EPOCHS) -> Head:
    """A head trained on the pairs by cross-entropy, with AdamW and a learning rate that falls to 0 along a cosine."""
    torch.manual_seed(seed)
    read = _read(pairs)
    head = Head(next(iter(read.values())).shape[1])
    optimiser = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=0.01)
    steps = epochs * -(-len(pairs) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    loss, rng = nn.CrossEntropyLoss(label_smoothing=SMOOTHING), random.Random(seed)

    def tokens(pair: Example) -> int:
        return max(len(read[pair.premise]), len(read[pair.hypothesis])) // 4

    for _ in range(epochs):
        for batch in batches(pairs, BATCH, tokens, rng):
            logits = _logits(head, batch, read)
            optimiser.zero_grad()
            loss(logits, torch.tensor([pair.label for pair in batch])).backward()
            optimiser.step()
            schedule.step()
    return head.eval().requires_grad_(False)


def batches(
    pairs: Sequence[Example], size: int, length: Callable[[Example], int], rng: random.Random
) -> list[list[Example]]:
    """All pairs in a new order; the pairs of a batch have similar lengths, so that there is little padding."""
    order = sorted(pairs, key=lambda pair: (length(pair), rng.random()))
    return rng.sample([order[start : start + size] for start in range(0, len(order), size)], -(-len(order) // size))


def figures(head: Head, pairs: Sequence[Example]) -> dict[str, tuple[float, float, float, int]]:
    """Accuracy, and precision and recall of "contradiction", each (value, low, high, n): Wilson's 95% interval."""
    read = _read(pairs)
    said = [
        int(row.argmax())
        for start in range(0, len(pairs), BATCH)
        for row in _logits(head, pairs[start : start + BATCH], read)
    ]
    right = Counter((pair.label, answer) for pair, answer in zip(pairs, said, strict=True))
    hits = right[CONTRADICTION, CONTRADICTION]
    by_name = {
        "accuracy": wilson(sum(right[label, label] for label in range(3)), len(pairs)),
        "precision": wilson(hits, sum(right[label, CONTRADICTION] for label in range(3))),
        "recall": wilson(hits, sum(right[CONTRADICTION, label] for label in range(3))),
    }
    for kind in sorted({pair.kind for pair in pairs}):
        mine = [pair.label == answer for pair, answer in zip(pairs, said, strict=True) if pair.kind == kind]
        by_name[f"right on: {kind}"] = wilson(sum(mine), len(mine))
    return by_name


def wilson(hits: int, n: int) -> tuple[float, float, float, int]:
    """A share with its 95% interval; NaN where n is 0."""
    if not n:
        return math.nan, math.nan, math.nan, 0
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return hits / n, interval.low, interval.high, n


def _read(pairs: Sequence[Example]) -> dict[str, torch.Tensor]:
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.premise, pair.hypothesis)))
    return dict(zip(texts, states(texts), strict=True))


def _logits(head: Head, pairs: Sequence[Example], read: dict[str, torch.Tensor]) -> torch.Tensor:
    (a, a_mask), (b, b_mask) = (
        padded([read[getattr(pair, part)] for pair in pairs]) for part in ("premise", "hypothesis")
    )
    return head(head.read(a), a_mask, head.read(b), b_mask)


def main() -> None:
    """Trains the head, prints its held-out figures and writes its weights."""
    parser = argparse.ArgumentParser(prog="agents.judge_models.nli_train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--cards", action="store_true", help="train on the written persona cards too")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, help="where the weights go (default: beside this file)")
    options = parser.parse_args()
    from safetensors.torch import save_file

    corpus = corpora()
    written, held = cards()
    pairs = examples(corpus["train"], options.pairs, derive_seed(options.seed, "train"))
    if options.cards:
        pairs += card_examples(written, derive_seed(options.seed, "cards"))
    head = train(pairs, options.seed, options.epochs)
    out = options.out or (CARD_WEIGHTS if options.cards else WEIGHTS)
    save_file({name: weight.to(torch.float16).contiguous() for name, weight in head.state_dict().items()}, out)
    print(f"{out}: {sum(weight.numel() for weight in head.parameters())} weights, labels {', '.join(LABELS)}")
    for name in ("values", "slots"):
        print(f"held-out {name}:")
        for figure, (value, low, high, n) in figures(
            head, examples(corpus[name], TEST_PAIRS, derive_seed(options.seed, name))
        ).items():
            print(f"  {figure:24} {value:.3f} [{low:.3f}, {high:.3f}] n={n}")
    value, low, high, n = wilson(*within_lines(EmbeddedNli("cpu", head).entail, held))
    print(f"held-out cards:\n  {'right within a line':24} {value:.3f} [{low:.3f}, {high:.3f}] n={n} (chance .5)")


if __name__ == "__main__":
    main()
