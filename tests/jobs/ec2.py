"""A server on loopback that speaks as EC2's instance metadata service does."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Ec2(ThreadingHTTPServer):
    """The metadata service of every node of this machine; tells one of them of its end when it is asked to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Ec2Handler)
        self.notices_to_give, self.notice_s, self.token = 0, 60.0, "a-token"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Ec2Handler(BaseHTTPRequestHandler):
    server: Ec2

    def do_PUT(self) -> None:
        self._answer(200, self.server.token.encode()) if self.path == "/latest/api/token" else self._answer(404, b"")

    def do_GET(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") != self.server.token:
            self._answer(401, b"")
        elif self.path != "/latest/meta-data/spot/instance-action" or self.server.notices_to_give < 1:
            self._answer(404, b"")
        else:
            self.server.notices_to_give -= 1
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.server.notice_s))
            self._answer(200, json.dumps({"action": "terminate", "time": at}).encode())

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...
