"""Turns the cloud's notice that a spot machine will be taken away into Ray's own signal for it.

EC2 gives about two minutes: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
An actor on each node with workers asks the instance's metadata service every two seconds. 404 means that there is no
notice. When there is one, the actor drains the node: Ray places nothing new there, and the driver learns of it in the
same way as of a drain that the autoscaler or a person began.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime

from batchseg.egress import redact_errors
from jobs.cluster.connection import drain_this_node
from jobs.terminal.redacted_output import redact_streams

ASK_EVERY_S = 2.0
TIMEOUT_S = 2.0
TOKEN_LIVES_S = 21_600
NOT_EC2_AFTER = 30
"""The number of unanswered questions in a row after which there seems to be no metadata service."""


@dataclass(frozen=True, slots=True)
class Notice:
    """The cloud will take this machine away."""

    action: str
    """Action of the cloud: terminate, stop or hibernate."""
    deadline_unix_s: float


def parse_notice(content: bytes) -> Notice:
    """Read a notice like `{"action": "terminate", "time": "2026-01-01T12:00:00Z"}`."""
    data = json.loads(content)
    return Notice(str(data["action"]), datetime.fromisoformat(data["time"]).timestamp())


class Ec2Metadata:
    """A client of the instance metadata service, version 2: it gets a token first and asks with that token."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._token, self._token_until_s = "", 0.0

    def notice(self) -> Notice | None:
        """The notice, or None while there is none. Raises OSError where the service does not answer."""
        try:
            return parse_notice(self._ask("/latest/meta-data/spot/instance-action"))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            if error.code == 401:
                self._token_until_s = 0.0  # the token has expired early
                return None
            raise

    def _ask(self, path: str) -> bytes:
        if time.monotonic() >= self._token_until_s:
            wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LIVES_S)}
            self._token = self._send("PUT", "/latest/api/token", wanted).decode()
            self._token_until_s = time.monotonic() + TOKEN_LIVES_S / 2
        return self._send("GET", path, {"X-aws-ec2-metadata-token": self._token})

    def _send(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        request = urllib.request.Request(self._endpoint + path, method=method, headers=headers)  # noqa: S310 - http only
        # The service is on the local link, so no proxy may be used.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read()
        return content


class NoticeWatcher:
    """The actor that watches for notices, one per node. `watch` ends with a line for the log."""

    def __init__(self, endpoint: str) -> None:
        redact_streams()
        self._metadata, self._stop = Ec2Metadata(endpoint), threading.Event()

    @redact_errors
    def watch(self) -> str:
        num_unanswered = 0
        while not self._stop.wait(ASK_EVERY_S):
            try:
                notice = self._metadata.notice()
            except (OSError, ValueError, KeyError) as error:
                num_unanswered += 1
                if num_unanswered >= NOT_EC2_AFTER:
                    return f"nothing watches for spot notices here: the metadata service does not answer: {error}"
                continue
            num_unanswered = 0
            if notice is not None:
                return self._drain(notice)
        return "no longer needed"

    def _drain(self, notice: Notice) -> str:
        left_s = notice.deadline_unix_s - time.time()
        accepted = drain_this_node(f"spot notice: {notice.action}", notice.deadline_unix_s)
        return f"spot notice: {notice.action} in {left_s:.0f} s; drained: {accepted}"
