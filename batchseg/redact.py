"""What must never be read in a log, a record, a report or an error: credentials, and the signatures of signed URLs.

Storage clients and GDAL put whole URLs and server answers into their messages, so every text that leaves goes through
`redact`: all errors of ours do so when they are made, the event log line by line, and whatever names a scene in a
file of the run says its address without the query.
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
"""A shorter value is no secret of a server, and would blank out innocent words."""

# Of any URL: user and password, and everything after a question mark. Which parameters sign a URL differs by server,
# and none of them helps whoever reads a message.
_USER = re.compile(r"(?<=://)[^/\s?#'\"]+@")
_QUERY = re.compile(r"((?:\b[a-z][a-z0-9+.-]{0,31}://|/vsi[a-z0-9_]+/)[^\s?'\"<>|]*)\?[^\s'\"<>|]+", re.IGNORECASE)
# The same without its URL, as in the message of an HTTP client, in an XML answer, or in a header.
_SIGNED = re.compile(
    r"\b(X-Amz-(?:Signature|Credential|Security-Token)|X-Goog-(?:Signature|Credential)|AWSAccessKeyId|Signature|sig)="
    r"[^&\s'\"<>,;]+",
    re.IGNORECASE,
)
_TAGGED = re.compile(
    r"<(AWSAccessKeyId|AccessKeyId|SignatureProvided|StringToSign|CanonicalRequest)>.*?</\1>", re.DOTALL
)


def redact(text: str) -> str:
    """The text without what would let its reader in."""
    for name in SECRET_VARIABLES:
        secret = os.environ.get(name, "")
        if len(secret) >= _LEAST_LENGTH:
            text = text.replace(secret, HIDDEN)
    text = _QUERY.sub(rf"\1?{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))
    return _TAGGED.sub(rf"<\1>{HIDDEN}</\1>", _SIGNED.sub(rf"\1={HIDDEN}", text))


def make_public_url(url: str) -> str:
    """An address for files that stay: without user and password, and without a query, which differs by signature."""
    if "://" not in url and not url.startswith("/vsi"):
        return url
    return _USER.sub("", url).partition("?")[0]
