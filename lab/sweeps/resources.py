"""The nodes of a cluster, and how much of one a trial gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.jobs.sweep import SweepPlan


NODES_EVERY_S = 2.0


def nodes() -> list[Mapping[str, float]]:
    """What each node of the cluster that is connected has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def resources(plan: SweepPlan, nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Cores, and a share of a GPU, of a trial, on such nodes. ValueError where none has as much.

    All engines of a trial live in one process and so share what it gets. Where `at_once` trials are to share the GPUs,
    each gets a fair part of one; else a trial has a GPU to itself.
    """
    from lab.dialogue.cluster import gpu_shares

    wanted, gpus = {"CPU": float(plan.sweep.cpus)}, int(sum(node.get("GPU", 0) for node in nodes))
    share = plan.sweep.gpus
    if share is None:
        share = (
            gpu_shares(gpus, plan.sweep.at_once or gpus, 0)[0]
            if gpus and any(map(_computes, plan.bases.values()))
            else 0.0
        )
    wanted |= {"GPU": share} if share else {}
    if not any(all(node.get(name, 0) >= much for name, much in wanted.items()) for node in nodes):
        most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in wanted}
        raise ValueError(
            f"a trial wants {_of(wanted)}, and no node has as much (the most: {_of(most)}); expected less of it: "
            "cpus, gpus"
        )
    return wanted


def _of(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {much:g}" for name, much in amounts.items())


def _computes(base) -> bool:
    """Whether a model of ours is at work in it, wherever GPUs are."""
    from lab.dialogue import wiring
    from scenarios.jobs.study import Study
    from scenarios.jobs.training import Recipe

    if isinstance(base, Study):
        return base.device != "cpu" and not base.seats.assistant.endpoint
    return base.device != "cpu" and (isinstance(base, Recipe) or bool(wiring.engine_names(base)))
