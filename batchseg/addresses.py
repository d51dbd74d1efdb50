"""Credentials in addresses: users with passwords, queries, and options in names of GDAL's.

Each rule takes time in proportion to the length of the text, as in `credentials.py`.
"""

from __future__ import annotations

import re
from typing import Protocol
from urllib.parse import unquote

from batchseg.secret_names import is_secret_name


class Hide(Protocol):
    """Takes a credential, and returns the text for its place."""

    def __call__(self, credential: str, *, is_query: bool = False) -> str: ...


_OBJECT_SCHEMES = frozenset({"s3", "s3a", "s3n", "gs", "gcs"})
"""Schemes whose addresses have a bucket and a key: there is no port, and a question mark is part of a pattern."""
_WORD = re.compile(r"[^\s'\"<>|]++")
_MAX_ENCODED = 4
_ENCODED_ADDRESS = re.compile(rf"%(?:25){{0,{_MAX_ENCODED - 1}}}+3[aA]%(?:25)*+2[fF]%(?:25)*+2[fF]")
_START = re.compile(r"://|/vsi\w++")
_REQUESTED = re.compile(r"(?:(?<=url: )|(?<=GET )|(?<=HEAD )|(?<=PUT )|(?<=POST ))(/[^\s?]*+\?)([^\s'\"]++)")
"""A path with a query, as clients and servers write down their requests."""


def hide_in_addresses(text: str, hide: Hide) -> str:
    """Users with passwords, and queries, which sign an address. No query helps the reader of a message."""
    if _START.search(text) or _ENCODED_ADDRESS.search(text):
        text = _WORD.sub(lambda match: hide_in_address(match[0], hide), text)
    return _REQUESTED.sub(lambda match: match[1] + hide(match[2], is_query=True), text)


def hide_in_address(address: str, hide: Hide) -> str:
    """Replace the credentials of one address, which may hold spaces and quotes."""
    if not _START.search(address):
        return _hide_in_encoded_address(address, hide) if _ENCODED_ADDRESS.search(address) else address
    address = _hide_users(address, hide)
    start = _START.search(address)
    assert start is not None, "the start of an address is no credential"
    mark = address.find("?", start.end()) + 1
    if not mark or not _is_query(address, mark):
        return address
    end = mark + count_characters(address[mark:])
    inner = find_inner_address(address[start.start() : end])
    rest = address[end:] if inner is None else f"&url={hide_in_address(inner, hide)}{address[end:]}"
    return address[:mark] + hide(address[mark:end], is_query=True) + rest


def count_characters(credential: str) -> int:
    """The length of a credential without the punctuation behind it, which belongs to a sentence."""
    return len(credential.rstrip(",.:;!)]}")) or len(credential)


def _hide_in_encoded_address(address: str, hide: Hide) -> str:
    """Decode an address that is the value of an option, and leave it decoded if something in it is hidden."""
    plain = address
    for _ in range(_MAX_ENCODED):
        plain = unquote(plain)
        if _START.search(plain):
            break
    hidden = hide_in_address(plain, hide) if _START.search(plain) else plain
    return address if hidden == plain else hidden


def _is_query(address: str, mark: int) -> bool:
    """Test if a question mark begins a query, and not the rest of a pattern like `s3://bucket/2026-??-01/*.tif`."""
    query, start = address[mark:], address.rfind("://", 0, mark)
    if start < 0 or _find_scheme(address, start) not in _OBJECT_SCHEMES:
        return query != ""
    names = (pair.partition("=")[0] for pair in query.split("&"))
    return "=" in query and ("/" not in query or any(map(is_secret_name, names)))


def _find_scheme(address: str, start: int) -> str:
    return re.split(r"[^a-z0-9]", address[max(0, start - 12) : start].lower())[-1]


_AUTHORITY = re.compile(r"[^/?#]*+")
_PORT = re.compile(r"[0-9]{1,5}(?=[/?#,]|$)")
_HOST = re.compile(r"(?:(?:[\w-]++\.)++[\w-]++|localhost|\[[\da-f:]++\])(?=:[0-9]|[/?#]|$)|[\w-]++:[0-9]++(?=[/?#]|$)")
_BUCKET = re.compile(r"[\w.-]++(?=/|$)")


def _hide_users(address: str, hide: Hide) -> str:
    parts, done = [], 0
    start, last = address.find("://"), address.rfind("@")
    while 0 <= start < last:
        begin, end = start + 3, _find_end_of_user(address, start, last)
        if end is not None:
            parts += [address[done:begin], hide(address[begin:end])]
            begin = done = end
        start = address.find("://", begin)
    return "".join([*parts, address[done:]])


def _find_end_of_user(address: str, start: int, last: int) -> int | None:
    """The place of the `@` behind a user; None where the address names no user.

    A password should have its `/`, `?` and `#` encoded, and many have not. So a colon before the first of them begins a
    password, unless a port follows.
    """
    is_object = _find_scheme(address, start) in _OBJECT_SCHEMES
    authority = _AUTHORITY.match(address, start + 3)
    assert authority is not None, "the pattern matches the empty text"
    user, colon, _ = authority[0].partition(":")
    if "@" in authority[0]:
        first = address.rfind("@", start + 3, authority.end())
        if not colon:
            return first
    elif not colon or user.startswith("[") or user == "arn" or _has_no_user(address, start, start + 4 + len(user)):
        return None
    else:
        first = address.find("@", authority.end())
    host = _BUCKET if is_object else _HOST
    while first < last and not host.match(address, first + 1):
        first = address.find("@", first + 1)
    return first


def _has_no_user(address: str, start: int, behind_colon: int) -> bool:
    """Test if a colon stands behind the letter of a drive, or before a port."""
    scheme = _find_scheme(address, start)
    return scheme == "file" or (scheme not in _OBJECT_SCHEMES and _PORT.match(address, behind_colon) is not None)


def find_inner_address(name: str) -> str | None:
    """The address in a name of GDAL's with options, like `/vsicurl?max_retry=3&url=https%3A%2F%2F…`."""
    if not re.match(r"/vsicurl(?:_streaming)?\?", name):
        return None
    urls = [pair.removeprefix("url=") for pair in name.partition("?")[2].split("&") if pair.startswith("url=")]
    address = unquote(urls[-1]) if urls else ""
    return address if re.match(r"\w{1,8}+://", address) else None
