"""Several learners that train one model: data-parallel workers under Ray Train.

Each worker holds a whole `Learner` and carries out the same orders on its share of the batch
(`agents.learning.distributed`). Orders and answers pass through an actor (`lab.training.mailbox`). An error in one
worker ends all: Ray Train stops the others, and the error is raised where an answer is awaited.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError, get_context
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from agents.learning.learner import Learner
from agents.learning.methods import Learnt, Method, learn
from agents.learning.views import View
from lab.dialogue.cluster import LOOPBACK
from lab.training.mailbox import Desk
from scenarios.messages import reason

STOP = "stop"
ALONE = ("adapter", "save")  # orders that the first worker carries out for all
LOOK_S = 1.0  # between two looks at whether the workers still live
CLOSE_S = 20.0  # how long workers may take to stop; what is left of them then ends with the connection to Ray
SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a model's path is relative to where the command was given
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


class Learners:
    """The interface of a `Learner` over several workers; all workers must be able to read and write the folders.

    `settings` are the keyword arguments of `Learner`. `gpus` is the share of a GPU of each worker; 0 computes on the
    CPU. Workers with a whole GPU each communicate by nccl, others by gloo. Every method raises ValueError where a
    `Learner` would, and where a worker was lost; after that no method can be used.
    """

    def __init__(self, workers: int, settings: Mapping[str, object], gpus: float = 0.0) -> None:
        self._workers, self._failure = workers, None
        self._folder = tempfile.TemporaryDirectory(prefix="learners-")  # Ray Train's own notes
        self._desk: Any = ray.remote(Desk).options(num_cpus=0).remote(workers)
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        desk, settings = self._desk, dict(settings)
        each = {"CPU": 1} | ({"GPU": gpus} if gpus else {})
        backend = "nccl" if gpus == 1 else "gloo"
        on_loopback = ray.util.get_node_ip_address() == LOOPBACK
        trainer = TorchTrainer(
            lambda: serve_learner(desk, settings, gpus > 0),
            torch_config=LoopbackConfig(backend=backend, meeting=f"{self._folder.name}/meeting")
            if on_loopback
            else TorchConfig(backend=backend),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=each),
            run_config=RunConfig(
                name="learners",
                storage_path=self._folder.name,
                logging_config=LoggingConfig("ERROR"),
                failure_config=FailureConfig(controller_failure_limit=0, max_preemption_failures=0),
            ),
        )
        self._running = threading.Thread(target=self._run, args=(trainer,), daemon=True)
        self._running.start()
        try:
            self.device, self.dtype = self._ask("device"), self._ask("dtype")
        except ValueError:
            self.close()
            raise

    def learn(self, views: Sequence[View], method: Method) -> Learnt:
        return self._ask("learn", list(views), method)

    def adapter(self) -> tuple[dict, dict[str, torch.Tensor]]:
        return self._ask("adapter")

    def save(self, folder: Path, state: bool = True) -> None:
        self._ask("save", folder.resolve(), state)

    def restore(self, folder: Path) -> None:
        self._ask("restore", folder.resolve())

    @property
    def steps(self) -> int:
        """The number of updates so far."""
        return self._ask("steps")

    def close(self) -> None:
        """Ends the workers. It has to be called while Ray is connected, and may be called again."""
        if self._running.is_alive():
            self._desk.ask.remote(STOP, [])
            self._running.join(CLOSE_S)
        self._folder.cleanup()

    def _run(self, trainer: TorchTrainer) -> None:
        try:
            trainer.fit()
        except (TrainingFailedError, RayError) as error:
            self._failure = error

    def _ask(self, name: str, *arguments: object) -> Any:
        sent = ray.put(arguments)
        try:
            answered = self._desk.ask.remote(name, [sent])
            while not ray.wait([answered], timeout=LOOK_S)[0]:
                if not self._running.is_alive():
                    raise self._ended(self._failure)
            [answer] = ray.get(answered)
            return ray.get(answer)
        except RayError as error:
            raise self._ended(self._failure or error) from None

    def _ended(self, failure: Exception | None) -> ValueError:
        failures = list(getattr(failure, "worker_failures", {}).values()) or [
            getattr(failure, "controller_failure", failure)
        ]
        for worker_failure in failures:
            if isinstance(worker_failure, ValueError):
                return ValueError(str(worker_failure))
        why = reason(failures[0]) if failures[0] else "they were stopped"
        return ValueError(
            f"the {self._workers} workers of the learner ended ({why}); expected a free core or GPU and enough memory "
            "for each: fewer workers"
        )


@dataclass
class LoopbackConfig(TorchConfig):
    """The process group of workers on this machine alone.

    Torch's address store listens on every interface. Here the workers meet in the file `meeting` instead, so that none
    accepts connections from another machine.
    """

    meeting: str = ""

    @property
    def backend_cls(self) -> type:
        return LoopbackBackend


class LoopbackBackend(TorchConfig().backend_cls):
    """How Ray Train starts the process group of a `LoopbackConfig`; ending it is unchanged."""

    def on_start(self, worker_group, backend_config: Any) -> None:  # a LoopbackConfig
        group = backend_config.backend, backend_config.meeting, len(worker_group), backend_config.timeout_s
        ranks = range(len(worker_group))
        joining: list[Any] = [worker_group.execute_single_async(rank, join, rank, *group) for rank in ranks]
        ray.get(joining)


def join(rank: int, backend: str, meeting: str, workers: int, timeout_s: int) -> None:
    """Makes this process member `rank` of a process group of `workers` processes that meet in the file `meeting`."""
    for library in ("GLOO", "NCCL"):
        os.environ[f"{library}_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    torch.distributed.init_process_group(
        backend,
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=workers,
        timeout=timedelta(seconds=timeout_s),
    )


def serve_learner(desk, settings: Mapping[str, Any], gpu: bool) -> None:
    """The function of a worker: makes its learner and carries out orders from the desk until the order to stop."""
    worker, beside = get_context().get_world_rank(), get_context().get_local_world_size()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // beside))
    device: Any = str(get_device()) if gpu else "cpu"
    learner = Learner(**{**settings, "device": device})
    number, name, arguments = ray.get(desk.next.remote(0))
    while name != STOP:
        answer = None
        if worker == 0 or name not in ALONE:
            answer = partial(learn, learner) if name == "learn" else getattr(learner, name)
            if callable(answer):
                [sent] = arguments
                answer = answer(*ray.get(sent))
        ray.get(desk.answer.remote(worker, [ray.put(answer)]))
        number, name, arguments = ray.get(desk.next.remote(number))
