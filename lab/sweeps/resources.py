"""The nodes of a cluster, and the resources of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.jobs.sweep import SweepPlan


NODES_EVERY_S = 2.0


def nodes() -> list[Mapping[str, float]]:
    """The resources of each living node of the connected cluster, by name ("CPU", "GPU", ...)."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def resources(plan: SweepPlan, nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The resources of a trial on such nodes: "CPU" (cores) and, where it needs one, "GPU" (a share, 0 to 1, or a
    number).

    All engines of a trial are in one process and share its resources. Where `at_once` trials use the GPUs, each gets an
    equal share; otherwise a trial has a GPU to itself. Raises ValueError where no node has as much.
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
            f"a trial wants {_amounts_text(wanted)}, and no node has as much (the most: {_amounts_text(most)}); "
            "expected less of it: cpus, gpus"
        )
    return wanted


def _amounts_text(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {much:g}" for name, much in amounts.items())


def _computes(base) -> bool:
    """Whether the trial computes with a model of the lab on a device that may be a GPU."""
    from lab.dialogue import wiring
    from scenarios.jobs.recipe import Recipe
    from scenarios.jobs.study import Study

    if isinstance(base, Study):
        return base.device != "cpu" and not base.seats.assistant.endpoint
    return base.device != "cpu" and (isinstance(base, Recipe) or bool(wiring.engine_names(base)))
