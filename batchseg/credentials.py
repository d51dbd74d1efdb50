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

from batchseg.addresses import Hide, count_characters, hide_in_addresses
from batchseg.secret_names import is_secret_name

_SHAPED = ("AKIA", "ASIA", "eyJ", "ya29.", "AIza", "gho_", "ghp_", "ghs_", "ghu_", "hf_", "PRIVATE KEY")
_MARKS = ("=", "@", "?", "<", "%", "',", "earer", "EARER", "Basic", *_SHAPED)
"""A part of each form that needs no colon and no double quote. Most texts have none of them."""


def has_mark(text: str) -> bool:
    """Test if a form may be in this text; a quick look."""
    return ":" in text or '",' in text or any(mark in text for mark in _MARKS)


def has_mark_in_json(document: str) -> bool:
    """The same for the texts in a JSON document: its own colons stand behind quotes without a backslash."""
    num_colons = document.count(":") - document.count('":')
    return num_colons > 0 or '\\":' in document or '\\",' in document or any(mark in document for mark in _MARKS)


def hide_credentials(text: str, hide: Hide) -> str:
    """Replace each credential that stands in a known form."""
    if has_mark(text):
        for rule in (_hide_in_tags, hide_in_addresses, _hide_in_settings, _hide_in_schemes, _hide_by_shape):
            text = rule(text, hide)
    return text


_TAG = re.compile(r"<([\w:.-]++)((?:\s[^<>]*+)?+)>([^<]++)")


def _hide_in_tags(text: str, hide: Hide) -> str:
    """Credentials in XML answers, like `<SessionToken>…</SessionToken>`."""

    def replace(match: re.Match[str]) -> str:
        name, rest, value = match.groups()
        return f"<{name}{rest}>{hide(value)}" if is_secret_name(name.rpartition(":")[2]) else match[0]

    return _TAG.sub(replace, text)


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
        end = value.end(group) if group else value.start() + count_characters(value[0])
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
    """Test if this is a header, a variable or an item of a mapping, and no sentence and no list of words."""
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
    """Test if this is no word of a sentence."""
    return len(text) >= 20 or re.search(r"[0-9_~+/=%]", text) is not None


def _is_basic(text: str) -> bool:
    """Test if this is base64 of a user with a password."""
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
