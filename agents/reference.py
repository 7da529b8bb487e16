"""A reference model that says how likely a line is from a speaker with a given card."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from agents.protocol import Engine

HEARD = "Tell me something."  # what every line is read as an answer to, so that only the card differs
KEPT = 128  # cards whose branches stay open


class Reference:
    """`logprobs` for judges that read lines under cards; each card is read once and kept open."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._branches: OrderedDict[str, int] = OrderedDict()

    def logprobs(self, cards: Sequence[str], texts: Sequence[str]) -> list[list[float]]:
        """Per pair: natural-log probability of every token of the text, said under the card."""
        branches = self._open(list(dict.fromkeys(cards)))
        by_card: dict[str, list[int]] = {card: [] for card in branches}
        for i, card in enumerate(cards):
            by_card[card].append(i)
        ids = self.engine.encode(texts)
        found: list[list[float]] = [[] for _ in texts]
        scores = self.engine.score(list(branches.values()), [[((), ids[i]) for i in some] for some in by_card.values()])
        for some, by_text in zip(by_card.values(), scores, strict=True):
            for i, logprobs in zip(some, by_text, strict=True):
                found[i] = logprobs
        self._forget(keep=branches)
        return found

    def _open(self, cards: list[str]) -> dict[str, int]:
        form = self.engine.info().format
        if new := [card for card in cards if card not in self._branches]:
            prompts = self.engine.encode([form.opening + card + form.after_system + HEARD + form.before_said for card in new])
            self._branches.update(zip(new, self.engine.open(prompts), strict=True))
        for card in cards:
            self._branches.move_to_end(card)
        return {card: self._branches[card] for card in cards}

    def _forget(self, keep: dict[str, int]) -> None:
        while len(self._branches) > max(KEPT, len(keep)):
            self.engine.drop([self._branches.popitem(last=False)[1]])
