"""A Ray actor through which the loop of a training sends orders to several workers; it loads neither torch nor a
model.
"""

from __future__ import annotations

import asyncio


class Desk:
    """The current order and the workers' answers. Arguments and answers are references in lists, which it does not
    resolve.
    """

    def __init__(self, workers: int) -> None:
        self.workers, self.number, self.order = workers, 0, ("", [])
        self.answers: dict[int, list] = {}
        self.news = asyncio.Condition()

    async def ask(self, name: str, arguments: list) -> list:
        """The answer of worker 0, after all workers have carried out the order."""
        async with self.news:
            self.number, self.order, self.answers = self.number + 1, (name, arguments), {}
            self.news.notify_all()
            await self.news.wait_for(lambda: len(self.answers) == self.workers)
            return self.answers[0]

    async def next(self, number: int) -> tuple[int, str, list]:
        """(number, name, arguments) of the first order after order `number`, as soon as there is one."""
        async with self.news:
            await self.news.wait_for(lambda: self.number > number)
            return self.number, *self.order

    async def answer(self, worker: int, answer: list) -> None:
        """Stores the worker's answer to the current order."""
        async with self.news:
            self.answers[worker] = answer
            self.news.notify_all()
