"""No credential and no signature in any text that leaves."""

from __future__ import annotations

import pickle

import pytest

from batchseg.errors import ReadError, RecipeError
from batchseg.objectstore import open_store
from batchseg.redact import make_public_url, redact

KEY, SECRET = "AKIAEXAMPLE123456", "wJalrXUtnFEMI/K7MDENG+secret"
SIGNED = f"https://host/b/scene.tif?X-Amz-Credential={KEY}%2F2026&X-Amz-Signature=0123abcd&X-Amz-Expires=60"


@pytest.mark.parametrize(
    "text",
    [
        SIGNED,
        f"/vsicurl/{SIGNED}: HTTP 403",
        f"s3://{KEY}:{SECRET}@bucket/scene.tif",
        f"https://user:0123abcd@{SECRET}@host/scene.tif",
        f"<AWSAccessKeyId>{KEY}</AWSAccessKeyId><StringToSign>0123abcd</StringToSign>",
        f"tried X-Amz-Signature=0123abcd, AWSAccessKeyId={KEY}",
        "https://host/a.tif?sv=2026&sig=0123abcd%3D",
        f"the secret is {SECRET}",
    ],
)
def test_nothing_of_it_is_left(monkeypatch, text):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    error = ReadError(text, where=text, got=text, todo=text)
    for told in (redact(text), str(error), repr(error), str(pickle.loads(pickle.dumps(error)))):
        assert not any(secret in told for secret in (KEY, SECRET, "0123abcd")), told


def test_innocent_words_stay():
    for text in ("rows 0 to 512", "is it there? yes", "s3://bucket/folder/scene.tif", "a sign=b"):
        assert redact(text) == text


def test_an_address_for_files_has_no_query():
    assert make_public_url(SIGNED) == "https://host/b/scene.tif"
    assert make_public_url("/data/what?.tif") == "/data/what?.tif"


@pytest.mark.parametrize("url", ["s3://key:word@bucket/out", "s3://bucket/out?x=1", "https://host/out", "s3://"])
def test_outputs_that_cannot_be(url):
    with pytest.raises(RecipeError, match="output"):
        open_store(url)


def test_a_home_folder_is_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("~/out").address == str(tmp_path / "out")
