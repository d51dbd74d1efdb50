"""ray_cluster.yaml against Ray's own schema and defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

CLUSTER = Path(__file__).resolve().parents[2] / "ray_cluster.yaml"
pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("default")]


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text())


def test_ray_accepts_it(cluster):
    from ray.autoscaler._private.util import prepare_config, validate_config

    whole = prepare_config(cluster)
    validate_config(whole)
    assert whole["head_node_type"] in whole["available_node_types"]


def test_workers_are_spot_and_the_head_is_not(cluster):
    kinds = cluster["available_node_types"]
    head = kinds.pop(cluster["head_node_type"])
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"]["CPU"] == 0
    assert len(kinds) >= 2
    for kind in kinds.values():
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert kind["resources"]["spot"] == 1


def test_only_ssh_is_open_and_not_to_the_world(cluster):
    rules = cluster["provider"]["security_group"]["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in rules] == [(22, 22)]
    assert all(not entry["CidrIp"].endswith("/0") for rule in rules for entry in rule["IpRanges"])


def test_usage_statistics_are_off_everywhere(cluster):
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    assert all("RAY_USAGE_STATS_ENABLED=0" in line for line in starts if "ray start" in line)


def test_every_node_has_the_token_and_demands_it(cluster):
    assert cluster["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in line for line in starts if "ray start" in line)
    assert "RAY_AUTH_MODE=token" in cluster["docker"]["run_options"][-1]


def test_machines_give_credentials_only_against_a_token(cluster):
    for kind in cluster["available_node_types"].values():
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        assert kind["node_config"]["MetadataOptions"]["HttpPutResponseHopLimit"] == 1


def test_a_job_that_is_stopped_may_end_its_chunks_in_hand(cluster):
    start = next(line for line in cluster["head_start_ray_commands"] if "ray start" in line)
    assert "RAY_JOB_STOP_WAIT_TIME_S=900" in start


def test_workers_may_do_less_than_the_head(cluster):
    profiles = {n: k["node_config"]["IamInstanceProfile"]["Name"] for n, k in cluster["available_node_types"].items()}
    assert profiles.pop("head") == "batchseg-head"
    assert set(profiles.values()) == {"batchseg-worker"}
