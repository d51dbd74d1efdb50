"""Real servers of the S3 protocol, each in a process of its own, on this machine only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
    folder.mkdir(parents=True, exist_ok=True)
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


_CEPH = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
log file = {folder}/run/$name.log
crash dir = {folder}/run
keyring = /dev/null
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
osd pool default pg num = 2
osd pool default pgp num = 2
osd pool default pg autoscale mode = off
mon max pg per osd = 1000
paxos propose interval = 0.05
[mon]
mon data = {folder}/mon
mon cluster log file = {folder}/run/cluster.log
mon data avail warn = 1
mon data avail crit = 0
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2G
osd class load list = *
osd class default list = *
[client]
rgw override bucket index max shards = 1
rgw dynamic resharding = false
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw thread pool size = 32
rgw enable usage log = false
"""


@contextmanager
def radosgw(folder: Path) -> Iterator[dict[str, str]]:
    """Ceph's gateway with a monitor and one disk in memory: the strictest server of the protocol that Debian has."""
    for name in ("mon", "osd", "run"):
        (folder / name).mkdir(parents=True)
    port, fsid, config = free_port(), str(uuid.uuid4()), folder / "ceph.conf"
    v2, v1 = free_port(), free_port()
    config.write_text(_CEPH.format(fsid=fsid, v2=v2, v1=v1, port=port, folder=folder))
    with ExitStack() as stack:
        log = stack.enter_context((folder / "ceph.log").open("wb"))

        def once(program: str, *words: str) -> None:
            subprocess.run([program, *words], check=True, timeout=90, stdout=log, stderr=log)

        def daemon(program: str, *words: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen([program, "-c", str(config), *words, "-f"], stdout=log, stderr=log)
            stack.callback(_end, process)
            return process

        addresses = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
        once("monmaptool", "--create", "--fsid", fsid, "--addv", "a", addresses, str(folder / "monmap"))
        once("ceph-mon", "-c", str(config), "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"))
        daemon("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        once("ceph", "-c", str(config), "osd", "new", osd)
        once("ceph-osd", "-c", str(config), "-i", "0", "--mkfs", "--osd-uuid", osd)
        daemon("ceph-osd", "-i", "0")
        access = ("testkey", "testsecret")
        user = ("--uid=test", "--display-name=test", f"--access-key={access[0]}", f"--secret-key={access[1]}")
        once("radosgw-admin", "-c", str(config), "user", "create", *user)
        wait_for(port, daemon("radosgw", "-n", "client.rgw"), patience_s=60)
        endpoint = f"http://127.0.0.1:{port}"
        client(endpoint, *access).create_bucket(Bucket=BUCKET)
        yield environment(endpoint, *access)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)
