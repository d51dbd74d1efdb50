"""A folder of one scene, with a secret beside the folder and a server that remembers what it is asked for.

The server is a process of its own, because rasterio keeps Python's lock while it opens a file.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.batchseg.scene.scene_rasters import UTM, noise, write

BAND = 'dataType="Byte" band="1"'
SOURCE = (
    f"<VRTRasterBand {BAND}><SimpleSource><SourceFilename{{flag}}>{{name}}</SourceFilename></SimpleSource>"
    "</VRTRasterBand>"
)
ASKED, LEADS_TO = "asked.txt", ".leads_to"


class Place:
    """A folder of one scene, a secret file beside the folder, and a folder of the server."""

    def __init__(self, root: Path, host: str, served: Path) -> None:
        self.root, self.host, self.served = root, host, served
        self.folder, self.scene = root / "scene", root / "scene" / "x.vrt"
        self.server = f"http://{host}/{served.name}"
        self.folder.mkdir()
        served.mkdir()
        self.secret = write(root / "secret.tif", noise(1, 40, 40), **UTM)
        self.part = write(self.folder / "part.tif", noise(1, 40, 40), **UTM)

    @property
    def asked(self) -> list[str]:
        """What the server was asked for."""
        lines = (self.served.parent / ASKED).read_text().splitlines()
        return [line for line in lines if line.startswith(f"/{self.served.name}/")]

    def vrt(self, body: str, *, root: str = "", file: str = "x.vrt") -> str:
        path = self.folder / file
        path.write_text(f'<VRTDataset rasterXSize="40" rasterYSize="40"{root}>{body}</VRTDataset>')
        return str(path)

    def source(self, name: object, flag: str = "", **kind: str) -> str:
        return self.vrt(SOURCE.format(name=name, flag=flag), **kind)

    def redirect(self, file: str, target: str) -> str:
        (self.served / f"{file}{LEADS_TO}").write_text(target)
        return f"{self.server}/{file}"


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, _format: str, *_: Any) -> None:
        with Path(self.directory, ASKED).open("a") as file:
            file.write(f"{self.path}\n")

    def send_head(self) -> Any:
        target = Path(f"{self.translate_path(self.path)}{LEADS_TO}")
        if not target.is_file():
            return super().send_head()
        self.send_response(302)
        self.send_header("Location", target.read_text())
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("server")
    (folder / ASKED).touch()
    command = [sys.executable, "-m", "tests.batchseg.scene.referring_scenes", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip(), folder
        server.terminate()


@pytest.fixture
def place(tmp_path: Path, host: tuple[str, Path]) -> Place:
    number = len(list(host[1].iterdir()))
    return Place(tmp_path, host[0], host[1] / f"served{number}")


def _serve(folder: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=folder)) as server:
        print(f"127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1])
