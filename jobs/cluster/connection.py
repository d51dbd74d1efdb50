"""The Ray that a run uses: start or join one, and find its resources and the nodes that will be taken away.

Ray's signal for a node that will be taken away (`drain`) has no public call yet, neither to read it nor to give it.
Both calls are in this file only, so that another version of Ray changes no other file.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections import Counter
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray as typed_ray

from batchseg.errors import InputError
from batchseg.recipe import Fleet, PoolSpec

ray: Any = typed_ray
"""Ray's types know neither its private calls nor all of the public ones."""
PREEMPTION = 2
"""DRAIN_NODE_REASON_PREEMPTION; a test compares it with Ray's own number."""


def start_ray(fleet: Fleet) -> None:
    """Start a Ray on this machine, just large enough for the fleet, beside any other Ray that runs here."""
    cpus = sum(pool.workers * pool.cpus for pool in fleet.pools)
    gpus = sum(pool.workers * pool.gpus for pool in fleet.pools)
    resources: Counter[str] = Counter()
    for pool in fleet.pools:
        resources.update({name: amount * pool.workers for name, amount in pool.resources.items()})
    _init(
        address="local",
        num_cpus=max(1, math.ceil(cpus)),
        num_gpus=math.ceil(gpus),
        resources=dict(resources) or None,
        include_dashboard=False,
    )


def join_ray(address: str) -> bool:
    """Join the cluster at an address; `auto` is the one that runs on this machine. False: there is none."""
    try:
        _init(address=address)
    except ConnectionError as error:
        if address == "auto":
            return False
        raise InputError("there is no Ray cluster", where=f"RAY_ADDRESS={address}", got=str(error)) from error
    return True


def enter_cluster() -> bool:
    """Join the cluster that RAY_ADDRESS names, unless this process is in a Ray already. False: there is neither."""
    if ray.is_initialized():
        return True
    address = os.environ.get("RAY_ADDRESS")
    if address is None:
        return False
    if not join_ray(address):
        raise InputError(
            "there is no Ray cluster",
            where=f"RAY_ADDRESS={address}",
            todo="unset RAY_ADDRESS, or start a cluster there",
        )
    return True


def _init(**options: Any) -> None:
    """Ray ends the driver at SIGTERM; a run finishes the tasks in hand first, so it takes the signal back."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(configure_logging=False, log_to_driver=False, **options)
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def find_draining_nodes() -> dict[str, float | None]:
    """The nodes that will be taken away, each with the Unix time of it; None where the time is not known."""
    deadlines_ms: dict[str, int] = ray._private.state.state.get_draining_nodes()  # noqa: SLF001 - see the module's head
    return {node: deadline_ms / 1000 or None for node, deadline_ms in deadlines_ms.items()}


def drain_this_node(why: str, deadline_unix_s: float) -> bool:
    """Tell Ray that this node will be preempted, so that Ray places nothing new here and every run knows of it."""
    context = ray.get_runtime_context()
    client = ray._raylet.GcsClient(address=context.gcs_address)  # noqa: SLF001 - see the module's head
    accepted, _ = client.drain_node(
        context.get_node_id(),
        PREEMPTION,
        why,
        int(max(deadline_unix_s, time.time()) * 1000),
    )
    return bool(accepted)


def list_demand(pool: PoolSpec) -> dict[str, float]:
    """The resources that one worker of a pool needs on its node."""
    demand = {"CPU": pool.cpus, "GPU": pool.gpus, **pool.resources}
    return {name: amount for name, amount in demand.items() if amount}


def fits_on_a_node(demand: dict[str, float]) -> bool:
    """Test if some node of the cluster could take such a worker, if the node were empty."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return any(all(node.get(name, 0.0) >= amount for name, amount in demand.items()) for node in nodes)


def describe_resources(amounts: dict[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(amounts.items())) or "nothing"


def describe_free_resources() -> str:
    """The free resources of the cluster, in words."""
    free = ray.available_resources()
    hidden = ("node:", "memory", "object_store_memory", "accelerator_type:")
    return describe_resources({name: amount for name, amount in free.items() if not name.startswith(hidden)})
