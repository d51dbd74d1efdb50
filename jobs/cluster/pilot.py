"""Runs a pilot on a node where a worker of the pool could run, so that it times what will be paid for."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import RayError

from batchseg.budget.placement import PilotMeasurement, PilotWork, measure_pilot
from batchseg.egress import redact_errors
from batchseg.errors import BatchsegError, FleetError
from batchseg.recipe import PoolSpec
from batchseg.workers.worker import OpenModels
from jobs.cluster.actor import BundleRefs, pack_bundles, unpack_bundles
from jobs.cluster.actor_state import describe_loss
from jobs.cluster.connection import describe_free_resources, describe_resources, enter_cluster, list_demand
from jobs.terminal.redacted_output import redact_streams

MAX_RETRIES = 3
"""The number of times that Ray runs a pilot again when its node is lost. A pilot leaves nothing behind."""
TELL_EVERY_S = 60.0


def send_pilot(work: PilotWork, pool: PoolSpec, models: OpenModels) -> PilotMeasurement:
    """Run a pilot as a Ray task with the demand of a worker, so that an autoscaler starts a node for it if need be."""
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
            todo="run the same command again",
        ) from error
    if isinstance(done, BatchsegError):
        raise done
    return done


@redact_errors
def _pilot(work: PilotWork, bundles: BundleRefs, models: OpenModels) -> PilotMeasurement | BatchsegError:
    """Our own errors return as values, since Ray would wrap their messages in its own."""
    redact_streams()
    try:
        return measure_pilot(replace(work, job=unpack_bundles(work.job, bundles)), models)
    except BatchsegError as error:
        return error
