"""The forms in which credentials stand in a text: addresses, options, headers, connection strings and markup.

Theory of operation
-------------------
A text may be a line of a run or the message of a library. So each rule below looks for a form, not for a value. Inside
of a form a rule hides too much rather than too little, and outside of it nothing changes. Each rule takes time in
proportion to the length of the text: quantifiers are possessive, and a match begins only where a word begins.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache
from itertools import pairwise
from typing import Protocol
from urllib.parse import unquote


class Hide(Protocol):
    """Takes a credential, and returns the text for its place."""

    def __call__(self, credential: str, *, is_query: bool = False) -> str: ...


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
_OBJECT_SCHEMES = frozenset({"s3", "s3a", "s3n", "gs", "gcs"})
"""Schemes whose addresses have a bucket and a key: there is no port, and a question mark is part of a pattern."""


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a variable, an option, a header or a tag with this name holds a credential."""
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


_SHAPED = ("AKIA", "ASIA", "eyJ", "ya29.", "AIza", "gho_", "ghp_", "ghs_", "ghu_", "hf_", "PRIVATE KEY")
_MARKS = ("=", "@", "?", "<", "%", "',", "earer", "EARER", "Basic", *_SHAPED)
"""A part of each form that needs no colon and no double quote. Most texts have none of them."""


def has_mark(text: str) -> bool:
    """Whether a form may be in this text; a quick look."""
    return ":" in text or '",' in text or any(mark in text for mark in _MARKS)


def has_mark_in_json(document: str) -> bool:
    """The same for the texts in a JSON document: its own colons stand behind quotes without a backslash."""
    num_colons = document.count(":") - document.count('":')
    return num_colons > 0 or '\\":' in document or '\\",' in document or any(mark in document for mark in _MARKS)


def hide_credentials(text: str, hide: Hide) -> str:
    """Replace each credential that stands in a known form."""
    if has_mark(text):
        for rule in (_hide_in_tags, _hide_in_addresses, _hide_in_settings, _hide_in_schemes, _hide_by_shape):
            text = rule(text, hide)
    return text


_TAG = re.compile(r"<([\w:.-]++)((?:\s[^<>]*+)?+)>([^<]++)")


def _hide_in_tags(text: str, hide: Hide) -> str:
    """Of answers in XML, like `<SessionToken>…</SessionToken>`."""

    def replace(match: re.Match[str]) -> str:
        name, rest, value = match.groups()
        return f"<{name}{rest}>{hide(value)}" if is_secret_name(name.rpartition(":")[2]) else match[0]

    return _TAG.sub(replace, text)


_WORD = re.compile(r"[^\s'\"<>|]++")
_MAX_ENCODED = 4
_ENCODED_ADDRESS = re.compile(rf"%(?:25){{0,{_MAX_ENCODED - 1}}}+3[aA]%(?:25)*+2[fF]%(?:25)*+2[fF]")
_START = re.compile(r"://|/vsi\w++")
_REQUESTED = re.compile(r"(?:(?<=url: )|(?<=GET )|(?<=HEAD )|(?<=PUT )|(?<=POST ))(/[^\s?]*+\?)([^\s'\"]++)")
"""A path with a query, as clients and servers write down their requests."""


def _hide_in_addresses(text: str, hide: Hide) -> str:
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
    end = mark + _count_characters(address[mark:])
    inner = find_inner_address(address[start.start() : end])
    rest = address[end:] if inner is None else f"&url={hide_in_address(inner, hide)}{address[end:]}"
    return address[:mark] + hide(address[mark:end], is_query=True) + rest


def _count_characters(credential: str) -> int:
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
    """Whether a question mark begins a query, and not the rest of a pattern like `s3://bucket/2026-??-01/*.tif`."""
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
    """Whether a colon stands behind the letter of a drive, or before a port."""
    scheme = _find_scheme(address, start)
    return scheme == "file" or (scheme not in _OBJECT_SCHEMES and _PORT.match(address, behind_colon) is not None)


_NAME = re.compile(r"(?<![\w.-])([\w.-]++)([\"']?+[ \t]*+(?:=>|==?|:=?|%3[dD])[ \t]*+|[\"'],[ ]?(?=[bBuU]?[\"']))")
_QUOTED = re.compile(r"[bBrRuU]{0,2}(?:'((?:[^'\\]|\\.)*+)(?:'|$)|\"((?:[^\"\\]|\\.)*+)(?:\"|$))", re.DOTALL)
_BARE = re.compile(r"(?:[^\s&;,'\"<>|]|,(?=\S))++")
_TWO_WORDS = re.compile(r"(?:[A-Za-z][\w-]*+[ \t]++)?+[^\s&'\"<>]++")
_LINE = re.compile(r"[^'\"<>\r\n]++")


def _hide_in_settings(text: str, hide: Hide) -> str:
    """Options and headers, like `password=…`, `header.Authorization=…`, `'token': '…'` and `Cookie: …`."""
    parts, done, name = [], 0, _NAME.search(text)
    while name is not None:
        value = _find_value(text, name)
        if value is None:
            name = _NAME.search(text, name.end())
            continue
        group = value.lastindex or 0
        end = value.end(group) if group else value.start() + _count_characters(value[0])
        parts += [text[done : value.start(group)], hide(text[value.start(group) : end])]
        done, name = end, _NAME.search(text, value.end())
    return "".join([*parts, text[done:]])


def _find_value(text: str, setting: re.Match[str]) -> re.Match[str] | None:
    """The value behind the name of a setting; None where the name is that of no credential, or there is no value."""
    name, separator = setting.groups()
    if not is_secret_name(name) or not _is_setting(name, separator):
        return None
    last = name.rpartition(".")[2].rpartition("-")[2].lower()
    bare = _TWO_WORDS if last == "authorization" else _LINE if last == "cookie" else _BARE
    value = _QUOTED.match(text, setting.end()) or bare.match(text, setting.end())
    text = "" if value is None else value[value.lastindex or 0]
    is_small = last == "sig" and re.fullmatch(r"[0-9.]*|.{,7}", text)  # a share, and no signature
    return value if text and not is_small else None


def _is_setting(name: str, separator: str) -> bool:
    """Whether this is a header, a variable or an item of a mapping, and no sentence and no list of words."""
    is_header = "-" in name or name.lower() in ("authorization", "cookie")
    if "," in separator:
        return is_header
    if ":" in separator:
        return is_header or separator[0] in "\"'" or name.isupper() or name.lower() in ("password", "passwd", "pwd")
    return True


_BEARER = re.compile(r"(?<![\w])([Bb]earer|BEARER)((?:[ \t]|%20|\+)++)([\w.~+/=%-]{8,}+)")
_BASIC = re.compile(r"(?<![\w])(Basic)((?:[ \t]|%20|\+)++)([A-Za-z0-9+/]{6,}+={0,2})")
_ORACLE = re.compile(r"(?<![\w])(OCI|GEOR|GEORASTER)(:)((?!//)[^\s'\"<>]++)", re.IGNORECASE)


def _hide_in_schemes(text: str, hide: Hide) -> str:
    """Tokens behind the word that says how they authorise, and databases whose names begin with user and password."""
    text = _BEARER.sub(lambda m: m[1] + m[2] + (hide(m[3]) if _is_token(m[3]) else m[3]), text)
    text = _BASIC.sub(lambda m: m[1] + m[2] + (hide(m[3]) if _is_basic(m[3]) else m[3]), text)
    return _ORACLE.sub(lambda m: m[1] + m[2] + hide(m[3]), text)


def _is_token(text: str) -> bool:
    """Whether this is no word of a sentence."""
    return len(text) >= 20 or re.search(r"[0-9_~+/=%]", text) is not None


def _is_basic(text: str) -> bool:
    """Whether this is base64 of a user with a password."""
    try:
        return b":" in base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return False


_SHAPE = re.compile(
    r"(?<![\w-])(?:"
    r"A(?:KIA|SIA)[A-Z0-9]{16}(?![A-Za-z0-9])"  # AWS
    r"|eyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]*+"  # JSON web tokens
    r"|ya29\.[\w.-]{16,}+|AIza[\w-]{35}"  # Google
    r"|gh[opsu]_[A-Za-z0-9]{36,}+|hf_[A-Za-z0-9]{30,}+"  # GitHub, Hugging Face
    r")|(?<=PRIVATE KEY-----)[^-]++"
)


def _hide_by_shape(text: str, hide: Hide) -> str:
    """Tokens that tell by themselves what they are."""
    return text if not any(mark in text for mark in _SHAPED) else _SHAPE.sub(lambda match: hide(match[0]), text)


def find_inner_address(name: str) -> str | None:
    """The address in a name of GDAL's with options, like `/vsicurl?max_retry=3&url=https%3A%2F%2F…`."""
    if not re.match(r"/vsicurl(?:_streaming)?\?", name):
        return None
    urls = [pair.removeprefix("url=") for pair in name.partition("?")[2].split("&") if pair.startswith("url=")]
    address = unquote(urls[-1]) if urls else ""
    return address if re.match(r"\w{1,8}+://", address) else None
