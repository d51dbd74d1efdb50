"""A proxy between a client and a real server of the S3 protocol that does what networks and busy servers do.

It looks at each request, says which operation it is, and strikes where it is told to. `Host` is passed on as it came,
because signatures cover it. Bodies are small here and held in memory. It is a process of its own, since rasterio waits
for answers while it keeps Python's lock.

    with proxy_of(environment) as proxy:
        proxy.strike(Strikes("reset_answer", {"put": 2}))     # the first two puts
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, unquote, urlsplit

Operation = Literal[
    "head", "get", "range", "list", "put", "put_new", "begin_upload", "part", "end_upload", "uploads", "delete"
]
Kind = Literal[
    "error_500", "slow_down", "silence", "stall", "reset_request", "reset_answer", "lost_answer", "expired_token"
]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
KINDS: tuple[Kind, ...] = get_args(Kind)
"""
silence         the request is taken, and nothing is ever answered
stall           half of the answer's body comes, and then nothing
reset_request   the connection is cut while the request's body goes up
reset_answer    the connection is cut in the middle of the answer's body
lost_answer     the server does what it is asked for, and the connection is cut before it can say so
"""

_ERRORS: dict[Kind, tuple[int, str]] = {
    "error_500": (500, "InternalError"),
    "slow_down": (503, "SlowDown"),
    "expired_token": (400, "ExpiredToken"),
}

CONTROL = "/-proxy"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: list[tuple[str, str]]

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def place(self) -> str:
        """The key, and the query: a list names its prefix there."""
        return unquote(self.target)

    @property
    def operation(self) -> Operation:
        query = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        kinds: dict[str, list[tuple[Operation, bool]]] = {
            "HEAD": [("head", True)],
            "GET": [
                ("uploads", "uploads" in query),
                ("list", "list-type" in query or "prefix" in query),
                ("range", self.header("range") is not None),
                ("get", True),
            ],
            "POST": [("begin_upload", "uploads" in query), ("end_upload", True)],
            "PUT": [
                ("part", "uploadId" in query),
                ("put_new", self.header("if-none-match") is not None),
                ("put", True),
            ],
            "DELETE": [("delete", True)],
        }
        return next(name for name, holds in kinds[self.method] if holds)


@dataclass(slots=True, kw_only=True)
class Strikes:
    """Strikes the first so many of each operation (None: all of them), after letting `skip` of them pass."""

    kind: Kind = field(kw_only=False)
    operations: dict[Operation, int | None] = field(kw_only=False, default_factory=dict)
    """None named: every operation, for good."""
    skip: int = 0
    nth: int = 1
    """Of what is left, only each n-th."""
    only: str = ""
    """A pattern of the places."""
    struck: dict[Operation, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def __call__(self, operation: Operation, place: str) -> Kind | None:
        if (self.operations and operation not in self.operations) or not re.search(self.only, place):
            return None
        kept = operation if self.operations else "any"
        self.seen[kept] = self.seen.get(kept, 0) + 1
        most, had = self.operations.get(operation), self.struck.get(operation, 0)
        left = self.seen[kept] - self.skip
        if left <= 0 or left % self.nth or (most is not None and had >= most):
            return None
        self.struck[operation] = had + 1
        return self.kind


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port_behind: int, latency_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.port_behind, self.latency_s = port_behind, latency_s
        self.strikes: list[Strikes] = []
        self.seen: list[Seen] = []
        self.lock = threading.Lock()

    def see(self, request: Request) -> tuple[Seen, Kind | None]:
        seen = Seen(request.operation, request.place, [name.lower() for name, _ in request.headers])
        with self.lock:
            self.seen.append(seen)
            found = (strike(seen.operation, seen.place) for strike in self.strikes)
            return seen, next((kind for kind in found if kind is not None), None)

    def control(self, command: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            told = {"strikes": [asdict(one) for one in self.strikes], "seen": [asdict(one) for one in self.seen]}
            if "strikes" in command:
                self.strikes = [Strikes(**one) for one in command["strikes"]]
                self.seen = []
            return told

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what this is for."""


class _Connection(socketserver.StreamRequestHandler):
    server: _Server
    rbufsize = 1 << 16

    def handle(self) -> None:
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        behind = http.client.HTTPConnection("127.0.0.1", self.server.port_behind, timeout=60)
        try:
            while (request := self._head()) is not None:
                if not self._serve(request, behind):
                    return
        finally:
            behind.close()

    def _head(self) -> Request | None:
        first = self.rfile.readline().decode("latin-1").split()
        if len(first) != 3:
            return None
        headers = []
        while line := self.rfile.readline().decode("latin-1").rstrip("\r\n"):
            name, _, value = line.partition(":")
            headers.append((name, value.strip()))
        return Request(first[0], first[1], headers)

    def _serve(self, request: Request, behind: http.client.HTTPConnection) -> bool:
        """Whether the connection goes on."""
        size = int(request.header("content-length") or 0)
        if request.target == CONTROL:
            answer = json.dumps(self.server.control(json.loads(self.rfile.read(size)))).encode()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
            return True
        seen, kind = self.server.see(request)
        if request.header("expect"):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if kind == "reset_request":
            self.rfile.read(size // 2)
            return self._cut()
        body = self.rfile.read(size)
        if self.server.latency_s:
            time.sleep(self.server.latency_s)
        if kind == "silence":
            return self._wait_until_gone()
        if kind in _ERRORS:
            return self._refuse(request, *_ERRORS[kind])
        return self._pass_on(request, body, behind, kind, seen)

    def _pass_on(
        self, request: Request, body: bytes, behind: http.client.HTTPConnection, kind: Kind | None, seen: Seen
    ) -> bool:
        behind.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers:
            if name.lower() not in ("expect", "connection"):
                behind.putheader(name, value)
        behind.endheaders(body)
        answer = behind.getresponse()
        content = answer.read()
        with self.server.lock:
            seen.answer_bytes = len(content)
        if kind == "lost_answer":
            return self._cut()
        size = answer.getheader("content-length") if request.method == "HEAD" else str(len(content))
        kept = [
            f"{name}: {value}"
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding", "content-length")
        ]
        head = "\r\n".join([f"HTTP/1.1 {answer.status} {answer.reason}", *kept, f"Content-Length: {size or 0}", "", ""])
        if kind in ("reset_answer", "stall"):
            # Where there is no body to cut, the head is.
            whole = head.encode("latin-1") + content
            self.wfile.write(whole[: len(whole) - max(len(content) // 2, 8)])
            return self._wait_until_gone() if kind == "stall" else self._cut()
        self.wfile.write(head.encode("latin-1") + content)
        return True

    def _refuse(self, request: Request, status: int, code: str) -> bool:
        content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>struck by a test</Message></Error>"
        body = b"" if request.method == "HEAD" else content.encode()
        head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)
        return True

    def _cut(self) -> bool:
        """A reset, not an orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        return False

    def _wait_until_gone(self) -> bool:
        self.connection.settimeout(0.2)
        while True:
            try:
                if not self.connection.recv(1 << 16):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        return False


@dataclass(slots=True)
class Seen:
    """A request that came by."""

    operation: Operation
    place: str
    headers: list[str] = field(default_factory=list)
    """Names in small letters; values may be secrets."""
    answer_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Proxy:
    """The proxy's process, from outside."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def strike(self, *strikes: Strikes) -> None:
        """From now on do this, and nothing that was told before; what was seen is forgotten."""
        self._tell({"strikes": [asdict(one) for one in strikes]})

    def num_struck(self) -> int:
        return sum(sum(one["struck"].values()) for one in self.told()["strikes"])

    def seen(self) -> list[Seen]:
        return [Seen(**one) for one in self.told()["seen"]]

    def told(self) -> dict[str, Any]:
        return self._tell({})

    def _tell(self, command: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", CONTROL, json.dumps(command))
        told: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return told


@contextmanager
def proxy_of(environment: dict[str, str], *, latency_s: float = 0.0) -> Iterator[Proxy]:
    """A proxy before the server of an environment."""
    behind = environment["AWS_ENDPOINT_URL"].rpartition(":")[2]
    command = [sys.executable, "-m", "tests.proxy", behind, str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
        try:
            assert process.stdout is not None
            yield Proxy(int(process.stdout.readline()))
        finally:
            process.kill()


if __name__ == "__main__":
    with _Server(int(sys.argv[1]), float(sys.argv[2])) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
