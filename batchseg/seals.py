"""Digests of stored bytes, and seals: digests that small JSON files carry over their own content.

A seal is the last key of a file, on a line of its own, and covers every byte before it and the file's name. So it
tells an edited file, a cut one, and one that lies under the name of another. It shows damage and slips, not forgery:
whoever can compute a digest can write a seal.

    {
     "exit_status": 0,
     "why": "complete",
     "digest": "0123456789abcdef0123456789abcdef"
    }
"""

from __future__ import annotations

import hashlib
import re
from binascii import hexlify

SEAL_KEY = "digest"
_KEY = b"digest"
_END = b"\n}"
_SEAL = re.compile(rb',\n "([^"\n]{6})": "([^"\n]{32})"\n}\Z')
"""The end of a sealed file, also where the key or the digest is damaged."""


def compute_digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def add_seal(content: bytes, key: str) -> bytes:
    """Seal a JSON object.

    Args:
        content: The object, with an indent of 1 and at least one member.
        key: The key in the store that the object is written to.
    """
    body = content.removesuffix(_END)
    assert body != content, "only an indented JSON object can be sealed"
    return b"".join((body, b',\n "', _KEY, b'": "', _compute_seal(body, key), b'"', _END))


def split_seal(content: bytes) -> tuple[bytes, bytes | None]:
    """Split a file into its content without the seal, and the digest of the seal; None for a file without one.

    The digest is not compared. A damaged name of the seal's key makes a digest that equals no other.
    """
    match = _SEAL.search(content)
    if match is None:
        return content, None
    digest = match[2] if match[1] == _KEY else b""
    return content[: match.start()] + _END, digest


def is_seal_broken(content: bytes, key: str) -> bool:
    """Test if the file carries a seal that is not its own."""
    rest, digest = split_seal(content)
    return digest is not None and digest != _compute_seal(rest.removesuffix(_END), key)


def _compute_seal(body: bytes, key: str) -> bytes:
    return hexlify(hashlib.blake2b(key.encode() + b"\n" + body, digest_size=16).digest())
