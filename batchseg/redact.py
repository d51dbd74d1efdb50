"""Keeps credentials and the signatures of signed URLs out of logs, records, reports and errors.

Storage clients and GDAL put whole URLs and server answers into their messages. So every text that leaves the process
goes through `redact`: each error when it is made, and the event log line by line. Files of a run name a scene by its
address without the query (`make_public_url`).
"""

from __future__ import annotations

import os
import re

HIDDEN = "***"

SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_SAS_TOKEN",
    "GS_SECRET_ACCESS_KEY",
)
_LEAST_LENGTH = 6
"""The length below which a value counts as no secret: hiding it would hide innocent words too."""

# In any URL, the user and the password, and everything after a question mark. The parameters that sign a URL differ by
# server, and none of them helps the reader of a message.
_USER = re.compile(r"(?<=://)[^/\s?#'\"]+@")
_QUERY = re.compile(r"((?:\b[a-z][a-z0-9+.-]{0,31}://|/vsi[a-z0-9_]+/)[^\s?'\"<>|]*)\?[^\s'\"<>|]+", re.IGNORECASE)
# The same parameters without their URL, as in the message of an HTTP client, in an XML answer, or in a header.
_SIGNED = re.compile(
    r"\b(X-Amz-(?:Signature|Credential|Security-Token)|X-Goog-(?:Signature|Credential)|AWSAccessKeyId|Signature|sig)="
    r"[^&\s'\"<>,;]+",
    re.IGNORECASE,
)
_TAGGED = re.compile(
    r"<(AWSAccessKeyId|AccessKeyId|SignatureProvided|StringToSign|CanonicalRequest)>.*?</\1>", re.DOTALL
)


def redact(text: str) -> str:
    """Return the text without credentials and signatures."""
    for name in SECRET_VARIABLES:
        secret = os.environ.get(name, "")
        if len(secret) >= _LEAST_LENGTH:
            text = text.replace(secret, HIDDEN)
    text = _QUERY.sub(rf"\1?{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))
    return _TAGGED.sub(rf"<\1>{HIDDEN}</\1>", _SIGNED.sub(rf"\1={HIDDEN}", text))


def make_public_url(url: str) -> str:
    """Return an address for files that stay: without user, password and query, which holds the signature."""
    if "://" not in url and not url.startswith("/vsi"):
        return url
    return _USER.sub("", url).partition("?")[0]
