"""Ray actors around engines. A `HostedEngine` is an engine whose model lives in another process, or on another node.

It keeps the token ids of every branch (not their keys and values). When the actor dies, a new one is started and the
branches are opened again: the dialogue continues from its last line.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from agents.engine.protocol import Sample, Sampling, Steer, Usage
from agents.models.info import EngineInfo
from scenarios.messages import first_line, reason

DEATHS = 4  # in one call, after which the engine is given up


class EngineHost:
    """The actor: a `LocalEngine`. An error in a request comes back as a value, since Ray wraps exceptions in its
    traceback.
    """

    def __init__(self, model: str, dtype: str, device: str) -> None:
        from agents.models.loading import load, use_all_cores

        self.refused, self.engine = None, None
        try:
            loaded = load(model, dtype, device)
        except ValueError as error:
            self.refused = error
            return
        except Exception as error:  # of any kind: Ray would take it for a death, and start the actor again
            self.refused = ValueError(f"model {model!r} could not be loaded ({reason(error, 300)})")
            return
        use_all_cores()
        from agents.engine.local import LocalEngine

        self.engine = LocalEngine(loaded)

    def call(self, method: str, *arguments) -> object:
        """The result of the engine's method, or the ValueError that it raised."""
        if self.refused:
            return self.refused
        try:
            return getattr(self.engine, method)(*arguments)
        except ValueError as error:
            return error

    def pid(self) -> int:
        """The process id of the actor."""
        return os.getpid()


class HostedEngine:
    """An `agents.engine.protocol.Engine` whose work is done by an actor."""

    def __init__(
        self,
        model: str,
        dtype: str = "auto",
        device: str = "auto",
        *,
        gpus: float = 0.0,
        on_recovery: Callable[[str], None] = lambda detail: None,
    ) -> None:
        self._start_with = (model, dtype, device)
        self._gpus, self._on_recovery = gpus, on_recovery
        self._remote: dict[int, int] = {}  # our name of a branch -> the actor's
        self._ids: dict[int, list[int]] = {}
        self._under: dict[int, tuple[str | None, Steer | None]] = {}  # adapter and steer
        self._names = itertools.count()
        self._before, self._latest = Usage(), Usage()  # work of dead actors, and of the living one
        self._lost = False  # a new actor that knows none of our branches yet
        self._installed: dict[str, tuple] = {}  # adapters that lie in no folder
        self._watched: tuple | None = None  # what `watch` was last asked
        self.actor = self._start()
        self._info: EngineInfo = self._call("info")

    def info(self) -> EngineInfo:
        return self._info

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._call("encode", list(texts))

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return self._call("decode", [list(row) for row in ids])

    def usage(self) -> Usage:
        self._latest = self._call("usage")
        return self._before.plus(self._latest)

    def open(
        self, prompts: Sequence[Sequence[int]], adapter: str | None = None, steer: Steer | None = None
    ) -> list[int]:
        remote = self._call("open", [list(prompt) for prompt in prompts], adapter, steer)
        return [self._keep(there, prompt, (adapter, steer)) for there, prompt in zip(remote, prompts, strict=True)]

    def install(self, adapter: str, config: Mapping[str, object], weights: Mapping[str, object]) -> None:
        self._call("install", adapter, dict(config), dict(weights))
        self._installed[adapter] = dict(config), dict(weights)

    def extend(self, branches: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        self._call_on("extend", branches, [list(new_ids) for new_ids in ids])
        for branch, new_ids in zip(branches, ids, strict=True):
            self._ids[branch].extend(new_ids)

    def fork(self, branches: Sequence[int]) -> list[int]:
        remote = self._call_on("fork", branches)
        return [
            self._keep(there, self._ids[branch], self._under[branch])
            for there, branch in zip(remote, branches, strict=True)
        ]

    def generate(self, branches: Sequence[int], sampling: Sequence[Sampling]) -> list[Sample]:
        samples = self._call_on("generate", branches, list(sampling))
        for branch, sample in zip(branches, samples, strict=True):
            self._ids[branch].extend(sample.token_ids)
        return samples

    def score(self, branches: Sequence[int], continuations) -> list[list[list[float]]]:
        return self._call_on("score", branches, continuations)

    def drop(self, branches: Sequence[int]) -> None:
        known = [branch for branch in branches if branch in self._remote]
        self._call_on("drop", known)
        for branch in known:
            del self._remote[branch], self._ids[branch], self._under[branch]

    def watch(self, cards: Mapping[str, str], heard: Sequence[str], seed: int) -> None:
        self._call("watch", dict(cards), list(heard), seed)
        self._watched = dict(cards), list(heard), seed

    def states(self, prompts: Sequence[Sequence[int]], starts: Sequence[int], adapter: str | None = None) -> np.ndarray:
        return self._call("states", [list(prompt) for prompt in prompts], list(starts), adapter)

    def close(self) -> None:
        ray.kill(self.actor)

    def _keep(self, remote: int, ids: Sequence[int], under: tuple[str | None, Steer | None]) -> int:
        name = next(self._names)
        self._remote[name], self._ids[name], self._under[name] = remote, list(ids), under
        return name

    def _start(self) -> Any:
        """The actor's handle, which Ray types as the class whose methods have no `remote`."""
        return ray.remote(EngineHost).options(num_cpus=1, num_gpus=self._gpus).remote(*self._start_with)

    def _call_on(self, method: str, branches: Sequence[int], *arguments) -> Any:
        return self._answer(
            lambda: self.actor.call.remote(method, [self._remote[branch] for branch in branches], *arguments)
        )

    def _call(self, method: str, *arguments) -> Any:
        return self._answer(lambda: self.actor.call.remote(method, *arguments))

    def _answer(self, ask: Callable[[], Any]) -> Any:
        reason = ""
        for _ in range(DEATHS):
            try:
                if self._lost:
                    self._reopen()
                answer = ray.get(ask())
                break
            except RayTaskError:
                raise  # the actor lives; what it was asked went wrong in a way nobody foresaw
            except RayError as death:
                reason = first_line(death)
                self._before, self._latest = self._before.plus(self._latest), Usage()
                self.actor, self._lost = self._start(), True
        else:
            raise ValueError(
                f"the engine of {self._start_with[0]!r} died {DEATHS} times in a row ({reason}); expected enough "
                "memory for the model and its dialogues: a lower concurrency, or a smaller model"
            )
        if isinstance(answer, ValueError):
            raise answer
        return answer

    def _reopen(self) -> None:
        """Opens every branch again in a new actor, after it was given the directions to measure."""
        if self._watched:
            ray.get(self.actor.call.remote("watch", *self._watched))
        for adapter, made_of in self._installed.items():
            ray.get(self.actor.call.remote("install", adapter, *made_of))
        for under in set(self._under.values()):
            names = [name for name, its in self._under.items() if its == under]
            remote = ray.get(self.actor.call.remote("open", [self._ids[name] for name in names], *under))
            if isinstance(remote, ValueError):  # what it was started with is no longer there
                raise remote
            self._remote.update(zip(names, remote, strict=True))
        self._lost = False
        self._on_recovery(
            f"the engine of {self._start_with[0]} died and was started again; {len(self._ids)} views are read again"
        )
