"""Where the loop of a training leaves its orders and several workers fetch them: a Ray actor, which loads nothing but
this.
"""

from __future__ import annotations

import asyncio


class Desk:
    """One order at a time. What it hands on, references in lists, it does not open."""

    def __init__(self, workers: int) -> None:
        self.workers, self.number, self.order = workers, 0, ("", [])
        self.answers: dict[int, list] = {}
        self.news = asyncio.Condition()

    async def ask(self, name: str, arguments: list) -> list:
        """The first worker's answer, once all have carried the order out."""
        async with self.news:
            self.number, self.order, self.answers = self.number + 1, (name, arguments), {}
            self.news.notify_all()
            await self.news.wait_for(lambda: len(self.answers) == self.workers)
            return self.answers[0]

    async def next(self, number: int) -> tuple[int, str, list]:
        """The order after that one, once it is given."""
        async with self.news:
            await self.news.wait_for(lambda: self.number > number)
            return self.number, *self.order

    async def answer(self, worker: int, answer: list) -> None:
        async with self.news:
            self.answers[worker] = answer
            self.news.notify_all()
