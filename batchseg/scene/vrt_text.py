"""The text of a local VRT, without the statistics that programs write into it when they only look at it."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

_NO_PIXELS = re.compile(
    rb'<MDI key="STATISTICS_[^"]*">[^<]*</MDI>|<SourceProperties [^>]*/>'
    rb"|<Histograms>(?:\s|[0-9.|eE+-]|</?(?:Hist\w*|BucketCount|IncludeOutOfRange|Approximate)>)*</Histograms>"
)
"""Statistics, and the properties of sources, which GDAL adds or leaves out as it likes. Between the ends of a histogram
may lie nothing else, because the ends could stand in comments around a source."""
_EMPTY = re.compile(rb"<Metadata>\s*</Metadata>")


def digest_vrt_text(path: Path) -> str | None:
    """Digest the text of a VRT; None for any other file."""
    if path.suffix.lower() != ".vrt":
        return None
    stat = path.stat()
    return _digest((path, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=256)  # each chunk asks again, and a VRT of a country has megabytes
def _digest(version: tuple[Path, int, int]) -> str | None:
    text = version[0].read_bytes()
    if b"<VRTDataset" not in text[:1024]:
        return None
    text = _EMPTY.sub(b"", _NO_PIXELS.sub(b"", text))
    return hashlib.blake2b(b" ".join(text.split()), digest_size=16).hexdigest()
