"""Files and servers that a file may refer to: its own folder, and what the author of the recipe allows."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from batchseg.errors import SceneError
from batchseg.link_local import is_link_local, split_host
from batchseg.recipe.trust import Trust
from batchseg.remote import is_remote


@dataclass(frozen=True, slots=True)
class Reach:
    """Folders and servers that one scene or vector file may refer to."""

    url: str
    """The file as the author named it, for messages."""
    own: tuple[str, ...]
    """Its own folders: real paths, or one address that ends with a slash."""
    trust: Trust

    @staticmethod
    def of(url: str, file: str, trust: Trust) -> Reach:
        """Make the reach of the file that a name leads to."""
        if is_remote(file):
            server, separator, path = file.partition("?")[0].partition("://")[2].partition("/")
            folder = f"{server}{separator}{path}".rpartition("/")[0] or server
            return Reach(url, (f"{file.partition('://')[0]}://{folder}/",), trust)
        named = Path(file).absolute()
        # A link that the author names may lead anywhere: GDAL looks for sidecars at the link, for sources at its end.
        own = {os.path.realpath(named.parent), str(Path(os.path.realpath(named)).parent)}
        # Below the root of the file system lies everything, which is no folder of a scene's own.
        return Reach(url, tuple(sorted(own - {"/"})), trust)

    def check(self, name: str, file: str) -> None:
        """Raise SceneError unless a file may be referred to.

        Args:
            name: The reference, as it was written.
            file: The path or URL that it leads to.
        """
        if is_remote(file):
            self._check_url(name, file)
        else:
            self._check_path(name, file)

    def check_addresses(self, content: bytes) -> None:
        """Raise SceneError where a text holds a link-local address, whatever it is for."""
        text = content.decode("utf-8", "replace")
        for match in re.finditer(r"\b(?:https?|ftp)://([^/\s\"'<>?#]+)", text, re.IGNORECASE):
            self.check_host(match[0], ask_dns=False)

    def check_host(self, url: str, *, ask_dns: bool) -> None:
        """Raise SceneError where a URL leads to a link-local address."""
        scheme, host, _ = split_host(url)
        if scheme not in ("s3", "gs", "az") and is_link_local(host, ask_dns=ask_dns):
            raise SceneError(
                "link-local addresses are never read",
                where=self.url,
                got=url,
                todo="copy the file to a folder or a bucket, or remove the reference",
            )

    def _check_path(self, name: str, file: str) -> None:
        real = os.path.realpath(file)
        if any(_is_below(real, folder) for folder in (*self.own, *map(os.path.realpath, self.trust.folders))):
            return
        raise SceneError(
            "the file refers to a file outside of its own folder",
            where=self.url,
            expected=f"files below {' or '.join(self.own)}",
            got=name if name == real else f"{name} ({real})",
            todo=f"if it may be read, add to the recipe: `trust: {{folders: [{Path(real).parent}]}}`",
        )

    def _check_url(self, name: str, url: str) -> None:
        self.check_host(url, ask_dns=False)
        plain = unquote(url.partition("?")[0])
        if ".." not in plain.split("/") and any(plain.startswith(unquote(own)) for own in self.own):
            return
        scheme, host, port = split_host(url)
        is_web = scheme not in ("s3", "gs", "az")
        line = (f"{host}:{port}" if port else host) if is_web else f"{scheme}://{host}"
        allowed = {host, line}
        if allowed.isdisjoint(entry.casefold() for entry in self.trust.hosts):
            raise SceneError(
                "the file refers to a server",
                where=self.url,
                expected=f"files below {' or '.join(self.own)}",
                got=name,
                todo=f"if it may be asked, add to the recipe: `trust: {{hosts: [{_quote(line)}]}}`",
            )
        self.check_host(url, ask_dns=True)


def _quote(text: str) -> str:
    """Put quotes around text with a colon, as a YAML list needs them."""
    return f'"{text}"' if ":" in text else text


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
