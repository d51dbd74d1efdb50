"""A server of files that demands a credential, and repeats in its errors what it was sent, as real servers do.

It is a process of its own, because GDAL keeps Python waiting while it asks a server.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root, password = Path(), ""
    refuse_from = sys.maxsize
    """The byte from which on nothing is given: a header can be read, as when a signature expires during a run."""

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        file = self.root / urlsplit(self.path).path.lstrip("/")
        sent = f"{unquote(self.path)} {self.headers}"
        # GDAL puts the ending of a sidecar behind the signature, which is wrong then.
        is_signed = re.search(r"[?].*\.[A-Za-z.]{3,}$", self.path) is None
        if not is_signed or (self.password not in sent and "Basic " not in sent):
            self.refuse(403, "SignatureDoesNotMatch")
        elif file.name.startswith("broken"):
            self.refuse(500, "InternalError")
        elif not file.is_file():
            self.refuse(404, "NoSuchKey")
        else:
            self.give(file.read_bytes())

    def refuse(self, status: int, code: str) -> None:
        text = (
            f"<Error><Code>{code}</Code><Message>{self.path} was sent with {self.headers}</Message>"
            f"<StringToSign>{self.path}</StringToSign></Error>"
        )
        self.send(status, text.encode(), {})

    def give(self, content: bytes) -> None:
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        start, end = int(first or 0), min(int(last or len(content)), len(content) - 1)
        if first and end >= self.refuse_from:
            self.refuse(403, "ExpiredToken")
            return
        facts = {"ETag": f'"{len(content)}"', "Accept-Ranges": "bytes"}
        if first:
            facts["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        self.send(206 if first else 200, content[start : end + 1], facts)

    def send(self, status: int, content: bytes, facts: dict[str, str]) -> None:
        self.send_response(status)
        for name, fact in (*facts.items(), ("Content-Length", str(len(content)))):
            self.send_header(name, fact)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """GDAL closes connections in the middle of an answer."""


@contextmanager
def serve_signed(root: Path, password: str, *, refuse_from: int = sys.maxsize) -> Iterator[str]:
    """Serve a folder to requests that hold the password anywhere; yields host and port."""
    command = [sys.executable, __file__, str(root), password, str(refuse_from)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"localhost:{server.stdout.readline().strip()}"
        finally:
            server.terminate()


if __name__ == "__main__":
    Handler.root, Handler.password, Handler.refuse_from = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with Server(("127.0.0.1", 0), Handler) as listening:
        print(listening.server_port, flush=True)
        listening.serve_forever()
