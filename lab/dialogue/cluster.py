"""Where engines run: actors of a Ray cluster that is there, of a private one on this machine, or this process
itself.
"""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from agents.engine.protocol import Engine
from scenarios.messages import first_line

if TYPE_CHECKING:
    from agents.models.loading import LoadedModel


IN_PROCESS, KEPT = "none", "kept"  # kept: this process too, whose models stay for the next run in it
MODELS_KEPT = 2
FORMS = "host:port, ray://host:port, auto (the cluster that runs here), local (a private one) or none (no Ray at all)"
LOOPBACK, CLUSTERS = "127.0.0.1", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
ANSWER_S = 5.0  # how long a cluster's port is waited for; Ray itself would try for minutes
PACKAGES = ("agents", "lab", "metrics", "scenarios")  # what an actor on another node needs of ours
Hosting = Callable[[str, str, str], Engine]  # (model, dtype, device) -> engine


def check_cluster(address: str | None, workers: int = 1) -> None:
    """Refuse an address nobody listens at, before Ray is loaded. ValueError names the address and the forms there are.

    `workers`: of a learner; several need a cluster.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == IN_PROCESS and workers > 1:
        raise ValueError(
            f"workers: {workers} processes were asked for, and --address none leaves Ray alone, which starts them; "
            "expected workers=1 or another --address"
        )
    if address in (IN_PROCESS, "local", "auto"):
        return
    place = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d{1,5})", address)
    if not place:
        raise ValueError(f"{address!r} is no address of a Ray cluster; expected {FORMS}")
    try:
        socket.create_connection((place[1], int(place[2])), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"no Ray cluster answers at {address!r} ({error}); expected {FORMS}") from None


def is_private(address: str | None) -> bool:
    """Whether nothing is played elsewhere than on this machine: on a Ray of its own, or without one."""
    return (address or os.environ.get("RAY_ADDRESS") or "local") in ("local", IN_PROCESS)


@contextmanager
def hosting(
    address: str | None, engines: int, on_recovery: Callable[[str], None], workers: int = 0
) -> Iterator[Hosting]:
    """A maker of engines. `address`: a cluster's, None for RAY_ADDRESS or else a private cluster, "none" for this
    process.

    `engines`: how many will be made, so that they share the GPUs fairly; Ray is left alone where that is none.
    `workers`: of learners that will run beside them (`lab.training.workers`). Raises ValueError where no cluster
    answers.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address in (IN_PROCESS, KEPT) or not engines:
        yield _in_process if address != KEPT else _kept
        return
    engines_started: list = []
    with connected(address, engines + workers):
        try:
            yield lambda model, dtype, device: _hosted(
                engines_started, model, dtype, device, shares(engines, workers, device)[0], on_recovery
            )
        finally:
            for engine in engines_started:
                engine.close()


@contextmanager
def connected(address: str | None, cores: int) -> Iterator[None]:
    """Ray, at that address, or at RAY_ADDRESS, or on this machine alone with so many cores at least. ValueError where
    none answers.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    import ray

    terminate = signal.getsignal(signal.SIGTERM)
    _connect(address, cores)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)  # Ray puts in one of its own, which exits at once
    try:
        yield
    finally:
        ray.shutdown()


def _in_process(model: str, dtype: str, device: str) -> Engine:
    from agents.engine.local import LocalEngine
    from agents.models.loading import load, use_all_cores

    use_all_cores()
    return LocalEngine(load(model, dtype, device))


def _kept(model: str, dtype: str, device: str) -> Engine:
    from agents.engine.local import LocalEngine

    return LocalEngine(_stays(model, dtype, device))


@lru_cache(MODELS_KEPT)
def _stays(model: str, dtype: str, device: str) -> LoadedModel:
    from agents.models.loading import load, use_all_cores

    use_all_cores()
    return load(model, dtype, device)


def _connect(address: str, cores: int) -> None:
    """Ray's own words go to the log, which is where stdout and stderr point while a run is on."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet = {"logging_level": logging.WARNING, "log_to_driver": True}
    if address == "local":
        # Ray's niceness of 15 lets anything else that runs here starve the engines.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # The logger of actors: Ray Train would otherwise report the missing dashboard once a second.
        os.environ.setdefault("RAY_LOGGER_LEVEL", "error")
        cpus = max(cores, len(os.sched_getaffinity(0)))  # one that gets none would be waited for without end
        try:
            with _loopback_only():
                ray.init(address=address, num_cpus=cpus, include_dashboard=False, _node_ip_address=LOOPBACK, **quiet)
        except (ConnectionError, OSError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"Ray could not start here ({first_line(error)}); expected room in /dev/shm and /tmp, or --address none"
            ) from None
        if (place := ray.util.get_node_ip_address()) != LOOPBACK:
            ray.shutdown()
            raise ValueError(
                f"Ray {ray.__version__} took {place} for its address, where other machines could reach it; expected "
                f"{LOOPBACK}, as ray==2.60.0 takes, or --address none"
            )
        return
    root = Path(__file__).parents[2]
    try:
        ray.init(address=address, runtime_env={"py_modules": [str(root / name) for name in PACKAGES]}, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"no Ray cluster answers at {address!r} ({first_line(error)}); expected {FORMS}, and RAY_AUTH_MODE=token "
            "with its token in ~/.ray/auth_token where a cluster asks for one"
        ) from None


@contextmanager
def _loopback_only() -> Iterator[None]:
    """A Ray that starts meanwhile listens to this machine alone.

    It takes the machine's outer address for 127.0.0.1, and listens at every address, unless it is told that it makes no
    clusters. That it reads from the environment where it is imported, which whoever imported it first may have done
    long ago, and its processes do so again.
    """
    from ray._private import ray_constants

    read, given = getattr(ray_constants, "ENABLE_RAY_CLUSTER", True), os.environ.get(CLUSTERS)
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[CLUSTERS] = False, "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = read
        os.environ.pop(CLUSTERS)
        if given is not None:
            os.environ[CLUSTERS] = given


def shares(engines: int, workers: int, device: str) -> tuple[float, float]:
    """How much of a GPU each engine and each of the learners' workers gets, of the cluster that is connected."""
    import ray

    return (0.0, 0.0) if device == "cpu" else gpu_shares(int(ray.cluster_resources().get("GPU", 0)), engines, workers)


def gpu_shares(gpus: int, engines: int, workers: int) -> tuple[float, float]:
    """Workers get whole ones, which nccl wants, where some are left for the engines then; else all get the same share
    of any. A GPU holds a whole number of shares, so that everyone finds a place.
    """

    def each(many: int, over: int) -> float:
        return 1 / max(1, math.ceil(many / over))

    if not gpus:
        return 0.0, 0.0
    if gpus > workers:
        return each(engines, gpus - workers), 1.0
    return (each(engines + workers, gpus),) * 2


def _hosted(
    started: list, model: str, dtype: str, device: str, share: float, on_recovery: Callable[[str], None]
) -> Engine:
    from agents.engine.actor import HostedEngine

    started.append(HostedEngine(model, dtype, device, gpus=share, on_recovery=on_recovery))
    return started[-1]
