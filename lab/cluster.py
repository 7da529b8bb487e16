"""Where engines run: actors of a Ray cluster that is there, of a private one on this machine, or this process itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agents.protocol import Engine

IN_PROCESS = "none"
PACKAGES = ("agents", "scenarios")  # what an actor on another node needs of ours

Hosting = Callable[[str, str, str], Engine]  # (model, dtype, device) -> engine


@contextmanager
def hosting(address: str | None, engines: int, on_recovery: Callable[[str], None]) -> Iterator[Hosting]:
    """A maker of engines. `address`: a cluster's, None for RAY_ADDRESS or else a private cluster, "none" for this process.

    `engines`: how many will be made, so that they share the GPUs fairly. Raises ValueError where no cluster answers.
    """
    if address == IN_PROCESS:
        yield _in_process
        return
    import ray

    _connect(address or os.environ.get("RAY_ADDRESS"))
    made: list = []
    try:
        yield lambda model, dtype, device: _hosted(made, model, dtype, device, engines, on_recovery)
    finally:
        for engine in made:
            engine.close()
        ray.shutdown()


def _in_process(model: str, dtype: str, device: str) -> Engine:
    from agents.engine import LocalEngine
    from agents.models import load, use_all_cores

    use_all_cores()
    return LocalEngine(load(model, dtype, device))


def _connect(address: str | None) -> None:
    """Ray's own words go to the log, which is where stdout and stderr point while a run is on."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet = {"logging_level": logging.WARNING, "log_to_driver": True}
    if not address:
        ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        return
    root = Path(__file__).parent.parent
    try:
        ray.init(address=address, runtime_env={"py_modules": [str(root / name) for name in PACKAGES]}, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ValueError(f"no Ray cluster answers at {address!r} ({reason}); expected host:port, ray://host:port, auto, or "
                         "none to run in this process") from None


def _hosted(made: list, model: str, dtype: str, device: str, engines: int, on_recovery: Callable[[str], None]) -> Engine:
    import ray

    from agents.hosts import HostedEngine

    gpus = ray.cluster_resources().get("GPU", 0.0)
    share = 0.0 if device == "cpu" else min(1.0, gpus / engines)
    made.append(HostedEngine(model, dtype, device, gpus=share, on_recovery=on_recovery))
    return made[-1]
