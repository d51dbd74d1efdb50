"""The Ray that a run is on: starting or joining one, what it has, and which of its nodes are going away.

Ray's signal for a node that will be taken away (`drain`) has no public call yet, for hearing it or for giving it; both
are here and nowhere else, so that another version of Ray means another version of this file only.
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
    """A Ray of our own, just wide enough for the fleet, whatever other Ray runs on this machine."""
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
    """The cluster at an address, `auto` for the one that runs on this machine; False where there is none."""
    try:
        _init(address=address)
    except ConnectionError as error:
        if address == "auto":
            return False
        raise InputError("there is no Ray cluster", where=f"RAY_ADDRESS={address}", got=str(error)) from error
    return True


def enter_cluster() -> bool:
    """The Ray that this process is in already, or that RAY_ADDRESS names; False where there is neither."""
    if ray.is_initialized():
        return True
    address = os.environ.get("RAY_ADDRESS")
    if address is None:
        return False
    if not join_ray(address):
        raise InputError("there is no Ray cluster", where=f"RAY_ADDRESS={address}", todo="unset it, or start one")
    return True


def _init(**options: Any) -> None:
    """Ray takes SIGTERM for itself and would end the driver where it stands; a run ends its chunks in hand first."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(configure_logging=False, log_to_driver=False, **options)
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def find_draining_nodes() -> dict[str, float | None]:
    """Nodes that will be taken away, with the Unix time when, where it is known."""
    found: dict[str, int] = ray._private.state.state.get_draining_nodes()  # noqa: SLF001 - see the module's head
    return {node: deadline_ms / 1000 or None for node, deadline_ms in found.items()}


def drain_this_node(why: str, deadline_unix_s: float) -> bool:
    """Tell Ray that this node will be preempted: nothing new is placed here, and every run hears of it."""
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
    """What one worker of a pool asks of a node."""
    asked = {"CPU": pool.cpus, "GPU": pool.gpus, **pool.resources}
    return {name: amount for name, amount in asked.items() if amount}


def fits_on_a_node(wants: dict[str, float]) -> bool:
    """Whether some node that is here now could take such a worker, if it were empty."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return any(all(node.get(name, 0.0) >= amount for name, amount in wants.items()) for node in nodes)


def describe_resources(amounts: dict[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(amounts.items())) or "nothing"


def describe_free_resources() -> str:
    """What of the cluster is free, in words."""
    free = ray.available_resources()
    hidden = ("node:", "memory", "object_store_memory", "accelerator_type:")
    return describe_resources({name: amount for name, amount in free.items() if not name.startswith(hidden)})
