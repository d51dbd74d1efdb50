"""Names of credentials: of variables, options, headers and tags that hold one."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_PARTS = frozenset(
    {
        *("secret", "token", "password", "passwd", "passphrase", "passcode", "pwd", "credential"),
        *("signature", "sig", "hmac", "sas", "jwt", "bearer", "authorization", "cookie", "apikey", "secretkey"),
        "delegation",
    }
)
_SECRET_ENDINGS = ("password", "passwd", "pwd", "secret", "token", "apikey", "accesskey", "secretkey", "accountkey")
_KINDS_OF_KEYS = frozenset(
    {
        *("api", "access", "account", "auth", "customer", "encryption", "master", "private", "secret", "session"),
        *("shared", "signing", "storage", "subscription", "swift"),
    }
)
_SIGNED_TEXTS = frozenset({"stringtosign", "stringtosignbytes", "canonicalrequest", "canonicalrequestbytes"})
"""Names of the text that a server signed; it holds the parameters of the request."""
_HARMLESS_LAST_PARTS = frozenset(
    {
        *("algorithm", "count", "dir", "endpoint", "expiration", "expires", "expiry", "file", "folder", "headers"),
        *("host", "kind", "length", "limit", "method", "mode", "name", "parallelism", "path", "provider", "size"),
        *("sock", "socket", "ttl", "type", "uri", "url", "version"),
    }
)


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Test if a variable, an option, a header or a tag with this name holds a credential."""
    parts = [part.lower() for part in _PARTS.findall(name)]
    if not parts or parts[-1] in _HARMLESS_LAST_PARTS:
        return False
    pairs = set(pairwise(parts))
    return (
        not _SECRET_PARTS.isdisjoint(parts)
        or "".join(parts) in _SIGNED_TEXTS
        or any(part.endswith(_SECRET_ENDINGS) for part in parts)
        or any(kind in _KINDS_OF_KEYS and noun == "key" for kind, noun in pairs)
        or ("connection", "string") in pairs
    )
