"""Real servers of the S3 protocol, each in a process of its own, on this machine only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import botocore.session

BUCKET = "batchseg"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for(port: int, process: subprocess.Popen[bytes], *, patience_s: float = 30.0) -> None:
    """By connecting only: moto lets the first few requests in without a signature, and counts."""
    until_s = time.monotonic() + patience_s
    while time.monotonic() < until_s:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")


def client(endpoint: str, key: str, secret: str, service: str = "s3"):
    return botocore.session.Session().create_client(
        service, region_name="us-east-1", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret
    )


def environment(endpoint: str, key: str, secret: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def moto(folder: Path) -> Iterator[dict[str, str]]:
    """moto's server with signatures checked, and the environment of a user who may do everything."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with (folder / "moto.log").open("wb") as log:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
            env=os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": "3"},
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(port, server)
        iam = client(endpoint, "nobody", "nothing", "iam")
        iam.create_user(UserName="test")
        policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
        iam.put_user_policy(UserName="test", PolicyName="s3", PolicyDocument=policy)
        key = iam.create_access_key(UserName="test")["AccessKey"]
        access = key["AccessKeyId"], key["SecretAccessKey"]
        client(endpoint, *access).create_bucket(Bucket=BUCKET)
        yield environment(endpoint, *access)
    finally:
        server.terminate()
        server.wait(10)
