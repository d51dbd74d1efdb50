"""A pilot in the cluster: on a node where a worker of the pool could be, so that what it times is what will be paid."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import RayError

from batchseg.budget.placement import PilotMeasurement, PilotWork, measure_pilot
from batchseg.errors import BatchsegError, FleetError
from batchseg.recipe import PoolSpec
from batchseg.workers.worker import OpenModels
from jobs.cluster.actor import Boxes, pack_bundles, unpack_bundles
from jobs.cluster.connection import describe_free_resources, describe_resources, enter_cluster, list_demand
from jobs.cluster.member import describe_loss

MAX_RETRIES = 3
"""Of a pilot whose node was lost: nothing that it did counts, so it is done again from its start."""
TELL_EVERY_S = 60.0


def send_pilot(work: PilotWork, pool: PoolSpec, models: OpenModels) -> PilotMeasurement:
    """Ray places it, as it would a worker; a node that is not there yet is what tells an autoscaler to start one."""
    enter_cluster()
    task = ray.remote(_pilot).options(
        num_cpus=pool.cpus, num_gpus=pool.gpus, resources=pool.resources or None, max_retries=MAX_RETRIES
    )
    answer = task.remote(work, pack_bundles(work.job), models)
    while not ray.wait([answer], timeout=TELL_EVERY_S)[0]:
        demand = describe_resources(list_demand(pool))
        print(
            f"batchseg: the pilot is under way, or waits for {demand} of pool {pool.name}; "
            f"free in the cluster: {describe_free_resources()}",
            file=sys.stderr,
        )
    try:
        done: PilotMeasurement | BatchsegError = ray.get(answer)
    except RayError as error:
        raise FleetError(
            "the pilot was lost with its node, or with its process",
            where=f"pools: {pool.name}",
            got=describe_loss(error),
            todo="give the same command again",
        ) from error
    if isinstance(done, BatchsegError):
        raise done
    return done


def _pilot(work: PilotWork, boxes: Boxes, models: OpenModels) -> PilotMeasurement | BatchsegError:
    """What can be said in a line travels as a value: Ray would wrap it in its own words."""
    try:
        return measure_pilot(replace(work, job=unpack_bundles(work.job, boxes)), models)
    except BatchsegError as error:
        return error
