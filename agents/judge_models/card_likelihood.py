"""A reference model that says how likely a line is from a speaker with a given card."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from agents.engine.protocol import Engine

HEARD = "Tell me something."  # what every line is read as an answer to, so that only the card differs
CHARACTERS = 32  # of a text for each token of the context: more do not fit into it
KEPT = 1 << 14  # tokens of cards that stay read, about half a GiB of keys and values of the embedded model
AT_ONCE = 32  # cards read together: as long as one of them stays open, so does the memory of all


class Reference:
    """`logprobs` for judges that score lines under cards; each card is read once and its branch is cached."""

    def __init__(self, engine: Engine, adapter: str | None = None) -> None:
        self.engine, self.adapter = engine, adapter
        self._open: OrderedDict[str, tuple[int, int]] = OrderedDict()  # card -> its branch and tokens

    def logprobs(self, cards: Sequence[str], texts: Sequence[str]) -> list[list[float]]:
        """For each (card, text), the log-probability of every token of the text in nats, as said under the card.

        The list is empty where both together exceed the model's context.
        """
        lead = self.engine.info().format.lead
        longest = self.engine.info().context
        fits = [len(text) <= CHARACTERS * longest for text in texts]
        ids = self.engine.encode([lead + text if text and fit else "" for text, fit in zip(texts, fits, strict=True)])
        prompts, by_pair = self._prompts(set(cards)), [[] for _ in texts]
        by_card: dict[str, list[int]] = {}
        for i, card in enumerate(cards):
            if fits[i] and len(prompts[card]) + len(ids[i]) <= longest:
                by_card.setdefault(card, []).append(i)
        order = list(by_card)
        for batch in (order[start : start + AT_ONCE] for start in range(0, len(order), AT_ONCE)):
            scores = self.engine.score(
                self._branches(batch, prompts), [[((), ids[i]) for i in by_card[card]] for card in batch]
            )
            for card, by_text in zip(batch, scores, strict=True):
                for i, logprobs in zip(by_card[card], by_text, strict=True):
                    by_pair[i] = logprobs
            self._forget()
        return by_pair

    def _prompts(self, cards: Iterable[str]) -> dict[str, list[int]]:
        form, cards = self.engine.info().format, sorted(cards)
        texts = [form.beginning(card) + form.first(HEARD) + form.before_said for card in cards]
        return dict(zip(cards, self.engine.encode(texts), strict=True))

    def _branches(self, cards: Sequence[str], prompts: dict[str, list[int]]) -> list[int]:
        if new := [card for card in cards if card not in self._open]:
            opened = self.engine.open([prompts[card] for card in new], self.adapter)
            self._open.update({card: (branch, len(prompts[card])) for card, branch in zip(new, opened, strict=True)})
        for card in cards:
            self._open.move_to_end(card)
        return [self._open[card][0] for card in cards]

    def _forget(self) -> None:
        """Drops the branches of the least recently used cards."""
        while sum(tokens for _, tokens in self._open.values()) > KEPT:
            self.engine.drop([self._open.popitem(last=False)[1][0]])
