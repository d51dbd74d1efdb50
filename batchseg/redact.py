"""Keeps credentials and the signatures of signed URLs out of every text that leaves the process.

Storage clients and GDAL put whole addresses and answers of servers into their messages. So a text loses what stands in
a form of a credential (`credentials.py`), and what the process knows to be one (`known_secrets.py`). The text then
leaves through `egress.py`. Files of a run name a scene by its public address.
"""

from __future__ import annotations

import re

from batchseg.addresses import find_inner_address, hide_in_address
from batchseg.credentials import has_mark_in_json, hide_credentials
from batchseg.known_secrets import list_known_forms

HIDDEN = "***"


def redact(text: str) -> str:
    """Return the text without credentials and signatures. Text without them comes back as it is."""
    return hide_credentials(list_known_forms().hide(text, _hide), _hide)


def may_need_redaction(json_text: str) -> bool:
    """Test if a text in a JSON document may hold a credential; a quick look, which most documents pass."""
    return has_mark_in_json(json_text) or list_known_forms().are_in(json_text)


def _hide(*_: object, **__: object) -> str:
    return HIDDEN


def _drop(*_: object, **__: object) -> str:
    return ""


def has_credentials(url: str) -> bool:
    """Test if an address names a user, or has a query that is one."""
    return hide_in_address(url, _drop) != url


_CONNECTION = re.compile(r"\w+:(?!//)|\s*[<{\[]")
"""The beginning of a connection string, or of a document in the place of a name."""
_EMPTY_USER = re.compile(r"(?<=://)[^/\s?#'\"]*@")


def make_public_url(url: str) -> str:
    """Return an address for files that stay: without user, password and query, which holds the signature.

    It does not depend on the environment, as fingerprints are made of it.
    """
    inner = find_inner_address(url)
    if inner is not None:
        return f"/vsicurl/{make_public_url(inner)}"
    if "://" in url or url.startswith("/vsi"):
        url = _EMPTY_USER.sub("", hide_in_address(url, _drop)).partition("?")[0]
    # A plain path has no settings: `pass=ascending/scene.tif` is a folder.
    return hide_credentials(url, _hide) if _CONNECTION.match(url) else url
