"""Credentials that this process knows by their values: those of its environment, and those of addresses that it opens.

Messages of libraries hold them in forms that no rule foresees, so they are hidden wherever they stand, also encoded. A
short value, or a plain word, stands in innocent texts too. It is hidden only in the forms of `credentials.py`.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from urllib.parse import quote, unquote

from batchseg.addresses import Hide, hide_in_address
from batchseg.credentials import hide_credentials
from batchseg.secret_names import is_secret_name

LEAST_CHARACTERS = 8
LEAST_OF_A_WORD = 12
"""The least length of a value that is all letters of one case, or all digits, since it may be a word or a number."""
MAX_LEARNT = 64
"""The number of credentials of addresses that are kept, the newest ones. All forms of each are looked for."""

_SCHEME = re.compile(r"^(?:Bearer|Basic|Token)[ +]+", re.IGNORECASE)
_WORKING_FOLDERS = frozenset({"PWD", "OLDPWD"})
"""Variables of the shell that are called like a password."""
_learnt: OrderedDict[str, None] = OrderedDict()
_lock = Lock()


def learn_credentials(*texts: str) -> None:
    """Hide the credentials in these texts from now on, wherever they stand. The texts are addresses, or files."""
    secrets = [secret for text in texts for secret in find_secrets(text)]
    with _lock:
        _learnt.update(dict.fromkeys(secrets))
        while len(_learnt) > MAX_LEARNT:
            _learnt.popitem(last=False)


@dataclass(frozen=True, slots=True)
class KnownForms:
    """All forms of all credentials that the process knows."""

    texts: tuple[str, ...]
    """The longest first, since a short one may be a part of it."""
    encoded: tuple[re.Pattern[str], ...]
    """For addresses, in which any of the characters may be encoded, once or more often."""

    def are_in(self, text: str) -> bool:
        has_plain = any(form in text for form in self.texts)
        return has_plain or ("%" in text and any(pattern.search(text) for pattern in self.encoded))

    def hide(self, text: str, hide: Hide) -> str:
        for form in self.texts:
            if form in text:
                text = text.replace(form, hide(form))
        if "%" in text:
            for pattern in self.encoded:
                text = pattern.sub(lambda match: hide(match[0]), text)
        return text


def list_known_forms() -> KnownForms:
    with _lock:
        learnt = tuple(_learnt)
    return _list_forms(tuple(os.environ.items()), learnt)


@lru_cache(maxsize=8)
def _list_forms(environment: tuple[tuple[str, str], ...], learnt: tuple[str, ...]) -> KnownForms:
    secrets = {*learnt, *(secret for name, value in environment for secret in _find_in_variable(name, value))}
    longest_first = sorted(secrets, key=lambda secret: (-len(secret), secret))
    texts = sorted({form for secret in secrets for form in _encode(secret)}, key=lambda form: (-len(form), form))
    return KnownForms(tuple(texts), tuple(map(_make_pattern, longest_first)))


def _find_in_variable(name: str, value: str) -> Iterator[str]:
    if (is_secret_name(name) or name.upper().endswith("_PASS")) and name not in _WORKING_FOLDERS:
        yield from _split(value)
    yield from find_secrets(value)


@lru_cache(maxsize=256)
def find_secrets(text: str) -> frozenset[str]:
    """Find the credentials that stand in a text in a known form, and that can be told from innocent text."""
    noted: list[str] = []

    def note(credential: str, *, is_query: bool = False) -> str:
        noted.extend(_split_query(credential) if is_query else _split(credential))
        return ""

    hide_credentials(text, note)
    if "\n" not in text:
        hide_in_address(text, note)
    return frozenset(noted)


def _split(credential: str) -> Iterator[str]:
    """The parts of a credential that libraries print alone: lines, a token, a password behind its user, settings."""
    user, colon, password = credential.partition(":")
    behind = password if colon and not re.search(r"[\s/=&]", user) else ""
    lines = credential.splitlines() if "\n" in credential else ()
    # A client that takes the `/` in a password for the end of a host names what stands before it.
    pieces = re.split(r"[/?#@]", behind)
    parts = (credential, unquote(credential), _SCHEME.sub("", credential), behind, unquote(behind), *lines, *pieces)
    yield from filter(can_be_told, parts)
    yield from _list_secret_settings(credential)


def _split_query(query: str) -> Iterator[str]:
    yield from _list_secret_settings(query)
    if "=" not in query:
        yield from _split(query)


def _list_secret_settings(text: str) -> Iterator[str]:
    """The values of `name=value` pairs that are credentials by their name, or look like one."""
    for pair in re.split(r"[&;]", text):
        name, equals, value = pair.partition("=")
        if equals and (is_secret_name(unquote(name)) or _is_random(value)):
            plain = unquote(value)
            yield from filter(can_be_told, (value, plain, _SCHEME.sub("", plain)))
        if "%3A%2F%2F" in value.upper() or "://" in value:
            yield from find_secrets(unquote(value))


def can_be_told(value: str) -> bool:
    """Test if a value is so long or so odd that it stands nowhere by chance."""
    is_word = value.isdecimal() or (value.isalpha() and (value.islower() or value.isupper() or value.istitle()))
    return len(value) >= (LEAST_OF_A_WORD if is_word else LEAST_CHARACTERS) and value.strip("*") != ""


def _is_random(value: str) -> bool:
    """Test if the value of a parameter with any name looks like a signature, and not like a name, a path or a date."""
    if re.fullmatch(r"[0-9a-fA-F]{32,}", value):
        return True
    is_mixed = all(re.search(letters, value) for letters in ("[a-z]", "[A-Z]", "[0-9]"))
    return is_mixed and len(value) >= 20 and not re.search(r"[\s/:.,]", value)


@lru_cache(maxsize=512)
def _make_pattern(secret: str) -> re.Pattern[str]:
    """A pattern of a value in an address; `%2F` may be written `%2f` or `%252F`."""
    return re.compile("".join(map(_make_character_pattern, secret)))


def _make_character_pattern(character: str) -> str:
    content = character.encode("utf-8", "surrogateescape")
    encoded = "".join(f"%(?:25){{0,3}}(?i:{byte:02x})" for byte in content)
    return f"(?:{re.escape(character)}|{encoded}{'|[+]' if character == ' ' else ''})"


@lru_cache(maxsize=512)
def _encode(secret: str) -> frozenset[str]:
    """The other forms in which libraries write a value."""
    content = secret.encode("utf-8", "surrogateescape")
    in_json = (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    escaped = (repr(secret)[1:-1], html.escape(secret), *in_json)
    cores = set(_encode_base64(content))
    encoded = {quote(core, safe="") for core in cores}
    lower = {re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), core) for core in encoded}
    return frozenset({secret, *escaped, content.hex(), content.hex().upper(), *cores, *encoded, *lower})


def _encode_base64(content: bytes) -> Iterator[str]:
    """The part of base64 that shows this content alone, wherever the content begins in the whole."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + content).rstrip(b"=").decode()
        first, last = (0, 2, 3)[before], len(encoded) - bool((before + len(content)) % 3)
        core = encoded[first:last]
        if len(core) >= LEAST_CHARACTERS:
            yield from {core, core.replace("+", "-").replace("/", "_")}
