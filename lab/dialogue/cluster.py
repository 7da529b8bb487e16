"""Where engines run: in actors of an existing Ray cluster, in actors of a private cluster on this machine, or in this
process.
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
ANSWER_S = 5.0  # how long a cluster is waited for, to connect and to answer; Ray itself would try for minutes
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # of HTTP/2, with empty settings
PACKAGES = ("agents", "lab", "metrics", "scenarios")  # what an actor on another node needs
Hosting = Callable[[str, str, str], Engine]  # (model, dtype, device) -> engine


def check_cluster(address: str | None, workers: int = 1) -> None:
    """Raises ValueError where `address` has no valid form or no cluster answers at it; Ray is not loaded for this.

    `address` is as of `hosting`; `workers` is the number of a learner's processes, of which several need Ray.
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
        with socket.create_connection((place[1], int(place[2])), ANSWER_S) as server:
            server.sendall(GREETING)
            server.recv(1)  # Ray's servers answer with their settings at once
    except (OSError, OverflowError) as error:
        raise ValueError(f"no Ray cluster answers at {address!r} ({error}); expected {FORMS}") from None


def is_private(address: str | None) -> bool:
    """Whether all work stays on this machine: in a private Ray cluster, or without Ray."""
    return (address or os.environ.get("RAY_ADDRESS") or "local") in ("local", IN_PROCESS)


@contextmanager
def hosting(
    address: str | None, engines: int, on_recovery: Callable[[str], None], workers: int = 0
) -> Iterator[Hosting]:
    """A context that gives a function (model, dtype, device) -> engine; the engines are closed at its end.

    - `address`: that of a Ray cluster; None for RAY_ADDRESS, or else a private cluster; "none" for this process; "kept"
      for this process, which keeps its models loaded for the next call.
    - `engines`: the number of engines that will be made, which share the GPUs equally; with 0, Ray is not started.
    - `on_recovery`: called with a sentence when an engine that died was started again.
    - `workers`: the number of learner processes that need GPUs as well (`lab.training.workers`).

    Raises ValueError where no cluster answers.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address in (IN_PROCESS, KEPT) or not engines:
        yield _in_process if address != KEPT else _cached_engine
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
    """A context in which Ray is connected to `address`, as of `hosting`; a private cluster has at least `cores` CPUs.

    Raises ValueError where no cluster answers or Ray cannot start.
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


def _cached_engine(model: str, dtype: str, device: str) -> Engine:
    from agents.engine.local import LocalEngine

    return LocalEngine(_cached_model(model, dtype, device))


@lru_cache(MODELS_KEPT)
def _cached_model(model: str, dtype: str, device: str) -> LoadedModel:
    from agents.models.loading import load, use_all_cores

    use_all_cores()
    return load(model, dtype, device)


def _connect(address: str, cores: int) -> None:
    """Starts or joins a Ray cluster. Ray's own output follows stdout and stderr, which point to the log during a
    run.
    """
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
    """A context in which a private Ray cluster listens on the loopback interface alone.

    Ray listens on all interfaces unless its setting for clusters on Windows and macOS is off. The setting is read when
    Ray is imported, which may have happened before, and again by Ray's processes: hence both the constant and the
    environment variable are set.
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
    """The share of a GPU, 0 to 1, of each engine and of each learner worker, on the connected cluster; (0, 0) on the
    CPU.
    """
    import ray

    return (0.0, 0.0) if device == "cpu" else gpu_shares(int(ray.cluster_resources().get("GPU", 0)), engines, workers)


def gpu_shares(gpus: int, engines: int, workers: int) -> tuple[float, float]:
    """The share of a GPU, 0 to 1, of each engine and of each learner worker.

    Where GPUs are left for the engines, each worker gets a whole GPU, as nccl needs; otherwise all get equal shares. A
    share is 1 / k for a whole number k, so that shares fill a GPU without remainder.
    """

    def each(many: int, over: int) -> float:
        return 1 / max(1, math.ceil(many / over))

    if not gpus:
        return 0.0, 0.0
    if gpus > workers:
        return each(engines, gpus - workers), 1.0
    share = each(engines + workers, gpus)
    return share, share


def _hosted(
    started: list, model: str, dtype: str, device: str, share: float, on_recovery: Callable[[str], None]
) -> Engine:
    from agents.engine.actor import HostedEngine

    started.append(HostedEngine(model, dtype, device, gpus=share, on_recovery=on_recovery))
    return started[-1]
