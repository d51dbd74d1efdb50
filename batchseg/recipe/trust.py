"""Trust: what scenes and vector files may reach beyond their own folder."""

from __future__ import annotations

import re
from dataclasses import dataclass

from batchseg.errors import RecipeError
from batchseg.schema import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Permissions of a recipe's author. They decide what may be read, and never how it is labelled."""

    folders: tuple[str, ...] = setting((), doc="further folders that files may refer to, such as the sources of a VRT")
    hosts: tuple[str, ...] = setting(
        (),
        doc="servers and buckets that files may refer to, like `tiles.example.org`, `10.0.0.5:9000` or `s3://bucket`",
    )
    drivers: tuple[str, ...] = setting(
        (),
        doc="further drivers of GDAL that may open scenes and vector files, by GDAL's short name, like `HDF5` or `CSV`",
    )

    def __post_init__(self) -> None:
        for key in ("folders", "hosts", "drivers"):
            for index, text in enumerate(getattr(self, key)):
                if not text.strip():
                    raise RecipeError("an entry must not be empty", where=f"trust: {key}[{index}]", got=repr(text))
        for host in self.hosts:
            if not re.fullmatch(r"(?:(?:s3|gs|az)://)?[^/\s@?#]+", host):
                raise RecipeError(
                    "a host must be a name without a path",
                    where="trust: hosts",
                    expected="like tiles.example.org, 10.0.0.5:9000 or s3://bucket",
                    got=host,
                )
        for folder in self.folders:
            if "://" in folder or folder.startswith("/vsi"):
                raise RecipeError(
                    "a folder must be on this machine",
                    where="trust: folders",
                    got=folder,
                    todo="name a server or a bucket under `trust: hosts`",
                )

    @property
    def is_default(self) -> bool:
        """True if nothing beyond the defaults is allowed."""
        return not (self.folders or self.hosts or self.drivers)


NO_TRUST = Trust()
"""Nothing beyond the default drivers and a file's own folder."""
