"""Credentials that the process knows are hidden by their values, in every form; short values are not."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest

from batchseg import known_secrets
from batchseg.known_secrets import MAX_LEARNT, learn_credentials
from batchseg.redact import redact
from batchseg.secret_names import is_secret_name

CANARY, TOKEN = 'CaNaRy7/Q+x9 Zk4="é', "CaNaRy7/Q+x9_Zk4="


@pytest.fixture(autouse=True)
def nothing_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_secrets, "_learnt", type(known_secrets._learnt)())


VARIABLES = {
    "AWS_SECRET_ACCESS_KEY": CANARY,
    "AWS_ACCESS_KEY_ID": CANARY,
    "AWS_SESSION_TOKEN": CANARY,
    "AZURE_CLIENT_SECRET": CANARY,
    "AZURE_STORAGE_SAS_TOKEN": f"?sv=2026&sig={quote(CANARY, safe='')}",
    "AZURE_STORAGE_CONNECTION_STRING": f"AccountName=a;AccountKey={CANARY};EndpointSuffix=x",
    "GS_SECRET_ACCESS_KEY": CANARY,
    "GDAL_HTTP_BEARER": CANARY,
    "GDAL_HTTP_USERPWD": f"user:{CANARY}",
    "GDAL_HTTP_PROXYUSERPWD": f"user:{CANARY}",
    "GDAL_HTTP_HEADERS": f"Authorization: Bearer {TOKEN}",
    "GDAL_HTTP_COOKIE": CANARY,
    "RAY_AUTH_TOKEN": CANARY,
    "HTTPS_PROXY": f"http://user:{quote(CANARY, safe='')}@proxy:3128",
    "DATABASE_URL": f"postgresql://user:{quote(CANARY, safe='')}@host/db",
    "AWS_ENDPOINT_URL_S3": f"https://user:{quote(CANARY, safe='')}@host:9000",
    "MY_COMPANY_API_KEY": CANARY,
    "DB_PASS": CANARY,
    "SWIFT_KEY": CANARY,
}
"""Variables that GDAL, storage clients, Ray, proxies and databases read."""


def encode_everywhere(value: str) -> dict[str, str]:
    content = value.encode()
    shifted = (base64.b64encode(b"user"[:number] + content + b"more") for number in range(4))
    return {
        "plain": value,
        "percent": quote(value, safe=""),
        "percent but slashes": quote(value),
        "percent, lower case": quote(value, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
        "percent twice": quote(quote(value, safe=""), safe=""),
        "form": quote_plus(value),
        "JSON": json.dumps(value),
        "JSON, other letters": json.dumps(value, ensure_ascii=False),
        "repr": repr(value),
        "HTML": html.escape(value),
        "hex": content.hex(),
        "HEX": content.hex().upper(),
        **{f"base64 at {number}": text.decode() for number, text in enumerate(shifted)},
        "base64 of a URL": base64.urlsafe_b64encode(content).decode(),
        "base64, percent": quote(base64.b64encode(content).decode(), safe=""),
    }


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_is_hidden_by_its_value_in_every_form(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, VARIABLES[name])
    for form, encoded in encode_everywhere(TOKEN if name == "GDAL_HTTP_HEADERS" else CANARY).items():
        told = redact(f"GDAL said {encoded} and no more")
        assert told.startswith("GDAL said ")
        assert told.endswith(" and no more")
        left = told.removeprefix("GDAL said ").removesuffix(" and no more").replace("***", "").strip("\"'=")
        # In base64, six bits of a neighbour and those of the value share a letter.
        assert len(left) <= (10 if form.startswith("base64") else 0), f"{form}: {told}"


def test_secrets_of_several_lines_are_hidden_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_PRIVATE_KEY", "firstLine01\nsecondLine02\n")
    assert redact("at secondLine02, after firstLine01") == "at ***, after ***"


SHORT = ["a", "ab", "", "1", "true", "hunter2", "1234567", "town", "labels", "confidence", "minioadmin", "20260131"]


@pytest.mark.parametrize("value", SHORT)
def test_a_short_value_or_a_word_hides_no_innocent_text(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is hidden where it stands as a credential, and nowhere else."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", value)
    text = f"{value} of scene/labels_0_3.tif of 20260131 with confidence 1234567, a true town"
    assert redact(text) == text
    if value:
        for form in ("https://user:{}@host/x", "password={}", "Authorization: Bearer {}", "https://h/x?sig={}"):
            assert redact(form.format(value)).count("***") == 1
            assert value not in redact(form.format(value)).partition("***")[2].replace("host/x", "")


NAMES = {
    "RAY_AUTH_TOKEN": True,
    "X-Amz-Signature": True,
    "AWSAccessKeyId": True,
    "header.Authorization": True,
    "SharedAccessKey": True,
    "ocp-apim-subscription-key": True,
    "PGPASSWORD": True,
    "proxyuserpwd": True,
    "sig": True,
    "RAY_AUTH_MODE": False,
    "AWS_WEB_IDENTITY_TOKEN_FILE": False,
    "SSH_AUTH_SOCK": False,
    "GIT_AUTHOR_NAME": False,
    "TOKENIZERS_PARALLELISM": False,
    "GOOGLE_APPLICATION_CREDENTIALS": False,
    "PRIMARY_KEY": False,
    "COMPRESS": False,
    "X-Amz-SignedHeaders": False,
    "design": False,
    "": False,
}


@pytest.mark.parametrize(("name", "is_secret"), NAMES.items())
def test_names_of_credentials(name: str, is_secret: bool) -> None:
    assert is_secret_name(name) is is_secret


def test_the_working_folder_is_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell calls it PWD."""
    monkeypatch.setenv("PWD", "/data/projects")
    monkeypatch.setenv("OLDPWD", "/data/projects")
    assert redact("/data/projects/scene.tif") == "/data/projects/scene.tif"


ADDRESSES = {
    "https://user:pass word'99@host/x.tif": "pass word'99",
    "s3://KEY:a/b+c0123456@bucket/x.tif": "a/b+c0123456",
    "https://h/x.tif?X-Amz-Signature=0123456789ab&X-Amz-Expires=60": "0123456789ab",
    "https://h/x.tif?k=Ab0123456789Ab0123456789": "Ab0123456789Ab0123456789",
    "/vsicurl?header.X-Api-Key=key0123456&url=https%3A%2F%2Fh%2Fx.tif": "key0123456",
    "/vsicurl?a=b&url=https%3A%2F%2Fh%2Fx.tif%3Fsig%3Dsig0123456": "sig0123456",
    "PG:host=h password='word 0123456'": "word 0123456",
}


@pytest.mark.parametrize(("address", "secret"), ADDRESSES.items(), ids=range(len(ADDRESSES)))
def test_what_an_opened_address_holds_is_hidden_in_other_texts_too(address: str, secret: str) -> None:
    learn_credentials(address)
    assert redact(f"signed with {secret}, I say") == "signed with ***, I say"
    innocent = "scene x.tif on host in bucket with 60 of user KEY"
    assert redact(innocent) == innocent


def test_parameters_without_a_secret_are_not_looked_for() -> None:
    learn_credentials(
        "https://h/wms?layers=orthophoto2024&file=orthophoto_2024_tile_17.tif&width=1024&x=2026-01-31T00:00:00"
    )
    text = "orthophoto2024 orthophoto_2024_tile_17.tif 1024 2026-01-31T00:00:00"
    assert redact(text) == text


def test_the_newest_addresses_are_kept() -> None:
    learn_credentials(*(f"https://h/x?sig=signature{number:04}" for number in range(MAX_LEARNT + 5)))
    assert redact("signature0068 signature0000") == "*** signature0000"
