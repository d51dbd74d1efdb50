"""No credential and no signature in any text that leaves, and no innocent text hidden."""

from __future__ import annotations

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.errors import ReadError, RecipeError
from batchseg.objectstore import open_store
from batchseg.redact import has_credentials, make_public_url, redact

KEY, SECRET = "AKIAEXAMPLE123456789", "wJalrXUtnFEMI/K7MDENG+secret"
SIGNED = f"https://host/b/scene.tif?X-Amz-Credential={KEY}%2F2026&X-Amz-Signature=0123abcd&X-Amz-Expires=60"

# `CANARY` is what must not be left.
FORMS = [
    # Users and passwords of addresses, as people write them: nothing is encoded.
    ("s3://KEY:CANARY@bucket/scene.tif", "s3://***@bucket/scene.tif"),
    ("s3://KEY:CAN/ARY/a+b@bucket/scene.tif: no", "s3://***@bucket/scene.tif: no"),
    ("s3://KEY:/CANARY@bucket/a@2x.tif", "s3://***@bucket/a@2x.tif"),
    ("https://user:CAN#ARY@host/x.tif", "https://***@host/x.tif"),
    ("https://user:CAN?ARY@host/x.tif", "https://***@host/x.tif"),
    ("https://user:CAN@ARY@host/x.tif", "https://***@host/x.tif"),
    ("https://me@work.org:CAN/ARY@host.org:8080/x.tif", "https://***@host.org:8080/x.tif"),
    ("https://user:CANARY@host.org/a@2x.tif", "https://***@host.org/a@2x.tif"),
    ("https://CANARY@github.com/x and user@example.org", "https://***@github.com/x and user@example.org"),
    ("a://u:CANARY@h,b://u:CANARY@h", "a://***@h"),
    ("postgresql://user:CANARY@h:5432/db?sslmode=on&password=CANARY", "postgresql://***@h:5432/db?***"),
    # Queries.
    ("https://host/a.tif?CANARY", "https://host/a.tif?***"),
    ("az://c/scene.tif?sv=2026&sig=CANARY%3D, then", "az://c/scene.tif?***, then"),
    ("s3://b/k.tif?secret_key=CAN/ARY&access_key=CANARY", "s3://b/k.tif?***"),
    ('NETCDF:"https://h/x.nc?sig=CANARY":red', 'NETCDF:"https://h/x.nc?***":red'),
    (
        "Max retries exceeded with url: /b/x.tif?key=CANARY (Caused by",
        "Max retries exceeded with url: /b/x.tif?*** (Caused by",
    ),
    ("URL('http://h/x.tif?sig=CANARY')", "URL('http://h/x.tif?***')"),
    # Options of GDAL, also encoded, once and twice.
    (
        "/vsicurl?header.Authorization=Bearer%20CANARY&url=https%3A%2F%2Fu%3ACANARY%40h%2Fs.tif%3Fsig%3DCANARY",
        "/vsicurl?***&url=https://***@h/s.tif?***",
    ),
    ("/vsicurl_streaming?cookie=CANARY&list_dir=no", "/vsicurl_streaming?***"),
    ("https%3A%2F%2Fu%3ACANARY%40h%2Fx%3Fsig%3DCANARY", "https://***@h/x?***"),
    ("https%253A%252F%252Fu%253ACANARY%2540h%252Fx", "https://***@h/x"),
    ("header.Authorization%3DBearer%2520CANARY", "header.Authorization%3D***"),
    # Headers.
    ("Authorization: Bearer CANARY", "Authorization: ***"),
    ("> authorization: basic Q0FOQVJZ= HTTP/1.1", "> authorization: *** HTTP/1.1"),
    ("Authorization: AWS4-HMAC-SHA256 Credential=CANARY/2026, SignedHeaders=host, Signature=CANARY", None),
    ("{'Authorization': 'Bearer CANARY', 'Host': 'h'}", "{'Authorization': '***', 'Host': 'h'}"),
    ("X-Amz-Security-Token: CANARY", "X-Amz-Security-Token: ***"),
    ("Cookie: a=CANARY; b=CANARY", "Cookie: ***"),
    ("x-api-key: CANARY\r\nHost: h", "x-api-key: ***\r\nHost: h"),
    ("the server answered Bearer CANARY0123 with 403", "the server answered Bearer *** with 403"),
    ("sent Basic dXNlcjpDQU5BUlk= twice", "sent Basic *** twice"),
    ("[('X-Amz-Security-Token', 'CANARY'), ('Host', 'h')]", "[('X-Amz-Security-Token', '***'), ('Host', 'h')]"),
    ("[(b'authorization', b'Bearer CANARY')]", "[(b'authorization', b'***')]"),
    ('"GET /b/x.tif?key=CANARY HTTP/1.1" 403', '"GET /b/x.tif?*** HTTP/1.1" 403'),
    # Connection strings, settings and answers.
    ("PG:host=h user=u password='CAN ARY' dbname=x", "PG:host=h user=u password='***' dbname=x"),
    ("PG:host=h password = CAN,ARY dbname=x", "PG:host=h password = *** dbname=x"),
    ("MYSQL:db,user=root,password=CANARY,port=3306", "MYSQL:db,user=root,password=***"),
    ("Server=h;Uid=u;Pwd=CANARY;Trusted=no", "Server=h;Uid=u;Pwd=***;Trusted=no"),
    ("AccountName=a;AccountKey=CANARY+/==;EndpointSuffix=x", "AccountName=a;AccountKey=***;EndpointSuffix=x"),
    ("OCI:scott/CANARY@db", "OCI:***"),
    ("aws_secret_access_key = CANARY", "aws_secret_access_key = ***"),
    ("AWS_SECRET_ACCESS_KEY: CANARY", "AWS_SECRET_ACCESS_KEY: ***"),
    ('{"SecretAccessKey" : "CANARY", "Code" : "Success"}', '{"SecretAccessKey" : "***", "Code" : "Success"}'),
    ("tried X-Amz-Signature=CANARY, AWSAccessKeyId=CANARY", "tried X-Amz-Signature=***, AWSAccessKeyId=***"),
    ("password=CANARY: authentication failed", "password=***: authentication failed"),
    ("password=b'CANARY\\' it' was cut", "password=b'***' was cut"),
    ('token="CANARY that was cu', 'token="***'),
    ("<AWSAccessKeyId>CANARY</AWSAccessKeyId><Code>x</Code>", "<AWSAccessKeyId>***</AWSAccessKeyId><Code>x</Code>"),
    ("<StringToSign>AWS4\n2026\nCANARY</StringToSign>", "<StringToSign>***</StringToSign>"),
    ("<aws:SessionToken a='b'>CANARY was cut", "<aws:SessionToken a='b'>***"),
    ("<GDAL_WMS><UserPwd>u:CANARY</UserPwd></GDAL_WMS>", "<GDAL_WMS><UserPwd>***</UserPwd></GDAL_WMS>"),
    # Tokens that tell what they are.
    ("AKIACANARY0123456789 is unknown", "*** is unknown"),
    ("eyJCANARY01.eyJCANARY01.CANARY-_ expired", "*** expired"),
    ("-----BEGIN RSA PRIVATE KEY-----\nCANARY\n-----END", "-----BEGIN RSA PRIVATE KEY-----***-----END"),
]

NUMBERS = [str(number) for number in range(len(FORMS))]
"""Names of tests. pytest puts them into the environment, where a text would be taken for a credential."""


@pytest.mark.parametrize(("text", "told"), FORMS, ids=NUMBERS)
def test_a_credential_is_hidden_in_each_form(text: str, told: str | None) -> None:
    assert redact(text) == redact(redact(text))
    if told is not None:
        assert redact(text) == told
    for left in ("CANARY", "CAN", "ARY", "dXNlcjpDQU5BUlk", "Q0FOQVJZ"):
        assert left not in redact(text)


@pytest.mark.parametrize(("text", "told"), FORMS, ids=NUMBERS)
def test_also_between_other_words_and_in_errors(text: str, told: str | None) -> None:
    error = ReadError(text, where=text, got=text, todo=text)
    for line in (f"a {text} b", str(error), repr(error), str(pickle.loads(pickle.dumps(error)))):
        assert not any(part in redact(line) for part in ("CANARY", "CAN", "dXNlcjpDQU5BUlk"))
        assert redact(redact(line)) == redact(line)


@pytest.mark.parametrize("text", [SIGNED, f"/vsicurl/{SIGNED}: HTTP 403", f"the secret is {SECRET}", f"{SECRET}x"])
def test_nothing_is_left_of_what_signs_a_url(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert not any(secret in redact(text) for secret in (KEY, SECRET, "0123abcd"))


INNOCENT = [
    "rows 0 to 512",
    "is it there? yes",
    "did you mean https://host/x.tif?",
    "a sign=b",
    "s3://bucket/folder/scene.tif",
    "s3://bucket/2026-??-01/*.tif",
    "s3://bucket/year=2026/month=0?/scene_[12].tif",
    "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/name/a@2x.tif",
    "s3://bucket/a@2x.tif",
    "https://host:8080/a@2x.tif",
    "http://[::1]:8080/a@2x.tif",
    "file://C:/a@2x.tif",
    "/data/what?.tif",
    "/vsicurl/https://host/x.tif",
    "/vsizip//vsis3/bucket/a.zip/b.tif",
    "mail me@example.org about https://host/x.tif",
    "oci://bucket/scene.tif",
    "gdal_translate -of COG -co COMPRESS=DEFLATE -co PREDICTOR=YES -co BIGTIFF=IF_SAFER a.tif b.tif",
    "INTERLEAVE=PIXEL, NUM_THREADS=4, GDAL_HTTP_UNSAFESSL=YES, PRIMARY_KEY=id",
    "num_tokens=512, TOKENIZERS_PARALLELISM=false, signature_version=s3v4, cookie_file=a.txt",
    "`token`: RAY_AUTH_MODE=token needs a token: make one",
    "the bearer of news, and a Basic rectangle",
    "kind = 'town' AND class = 3",
    "<Category>token</Category><Code>AccessDenied</Code>",
    "4 x $0.34 per hour; 0.5 = 50 %",
    "key=value",
    "chunk scene/0_3: 1 of 4 (read 2 s)",
    "password=''",
    "s3://bucket/orbit=17/pass=ascending/scene.tif",
    "sig=0.05, sigma=2",
    "valid keys are ['token', 'town']",
    "drawn from ('password', 'town')",
]


@pytest.mark.parametrize("text", INNOCENT)
def test_innocent_text_stays(text: str) -> None:
    assert redact(text) == text


WORDS = st.sampled_from(
    [
        *(
            "scene",
            "town",
            "2026-01-31",
            "a b",
            "x.tif",
            "scene_[12]",
            "*",
            "??",
            "0_3",
            "é",
            "№",
            "a@2x",
            "v1.2",
            "#1",
        ),
        *(
            "COMPRESS=DEFLATE",
            "BLOCKSIZE=512",
            "class=3",
            "host:8080",
            "km²",
            "100 %",
            "key=value",
            "'quoted'",
            "5 > 4",
        ),
    ]
)
PATHS = st.lists(WORDS.filter(lambda word: "=" not in word), min_size=1).map("/".join)
URLS = st.tuples(st.sampled_from(["s3://bucket/", "gs://b/", "az://c/", "https://host.org/", "file:///"]), PATHS).map(
    "".join
)


@given(
    st.lists(
        st.one_of(WORDS, PATHS, URLS.filter(lambda url: "?" not in url or url.startswith(("s3", "gs")))), min_size=1
    )
)
def test_paths_addresses_names_and_options_stay(words: list[str]) -> None:
    text = ", ".join(words)
    assert redact(text) == text


@given(st.text(alphabet="aA1/:?#@=&%'\" <>|.;,-_\\\n[]", max_size=60))
def test_what_is_hidden_is_hidden_once(text: str) -> None:
    """Text that goes through the door twice, as an error in a log, changes the first time only."""
    once = redact(text)
    assert redact(redact(once)) == redact(once)


PIECES = [
    *(
        "a",
        "a.",
        "a ",
        "a=",
        "a: ",
        "'a':",
        "=",
        "@",
        "?",
        "<",
        "<a ",
        "<a>",
        "-",
        "\\",
        "1:",
        "&",
        "\n",
        "%25",
        "%2525",
    ),
    *(
        "://",
        "://x:",
        "://a@",
        "a://u@h,",
        "a://u:1/@h.de,",
        "s3://a:b",
        "s3://?a=/&",
        "/vsi",
        "/vsicurl?",
        "/vsicurl?url=",
    ),
    *(
        "/vsicurl?url=http://a/",
        "%3A%2F%2F",
        "%253A%252F%252F",
        "url: /?",
        "password='",
        'password="',
        "password=",
        "_password",
    ),
    *(
        "password='\\",
        "authorization: ",
        "cookie=a ",
        "Bearer ",
        "Basic ",
        "Basic aaaaaa ",
        "OCI:",
        "eyJ",
        "eyJ-",
        "ya29.",
    ),
    *("AKIA", "PRIVATE KEY-----", "x" * 50 + "="),
]


@pytest.mark.parametrize("piece", PIECES)
def test_time_is_in_proportion_to_length(piece: str) -> None:
    """A quadratic rule would take minutes for this text."""
    text = piece * (300_000 // len(piece))
    begun_s = time.process_time()
    redact(text)
    make_public_url(text)
    assert time.process_time() - begun_s < 5


PUBLIC = {
    SIGNED: "https://host/b/scene.tif",
    "https://user:CAN/ARY@host.org/a/scene.tif?sig=1": "https://host.org/a/scene.tif",
    "s3://KEY:CAN/ARY@bucket/scene.tif": "s3://bucket/scene.tif",
    "/vsicurl/https://host/scene.tif?sig=CANARY": "/vsicurl/https://host/scene.tif",
    "/vsicurl?cookie=CANARY&url=https%3A%2F%2Fh%2Fscene.tif%3Fsig%3DCANARY": "/vsicurl/https://h/scene.tif",
    "/vsizip//vsicurl/https://h/a.zip?sig=CANARY/x.tif": "/vsizip//vsicurl/https://h/a.zip",
    "PG:host=h password=CANARY": "PG:host=h password=***",
    "PG:host=h password=CANARY service=http://h/x": "PG:host=h password=*** service=http://h/x",
    "/data/token=5/sig=abcdefgh/scene.tif": "/data/token=5/sig=abcdefgh/scene.tif",
    "s3://bucket/token=5/scene.tif": "s3://bucket/token=5/scene.tif",
    "/data/what?.tif": "/data/what?.tif",
    "s3://bucket/a@2x.tif": "s3://bucket/a@2x.tif",
    "https://host:8080/x.tif": "https://host:8080/x.tif",
}


@pytest.mark.parametrize(("url", "public"), PUBLIC.items())
def test_an_address_for_files_has_no_credential(url: str, public: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_public_url(url) == public
    assert make_public_url(public) == public
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", public)
    assert make_public_url(url) == public, "a fingerprint must not depend on the environment"


@pytest.mark.parametrize(
    "url", ["s3://key:word@bucket/out", "s3://key:wo/rd@bucket/out", "s3://bucket/out?x=1", "https://host/out", "s3://"]
)
def test_outputs_that_cannot_be(url: str) -> None:
    with pytest.raises(RecipeError, match="output"):
        open_store(url)


def test_an_address_has_credentials_or_not() -> None:
    assert has_credentials("s3://key:wo/rd@bucket/out")
    assert not has_credentials("s3://bucket/a@b/out")


def test_a_home_folder_is_an_output(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("~/out").address == f"{tmp_path}/out"
