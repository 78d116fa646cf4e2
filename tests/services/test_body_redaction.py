"""The second net under captured bodies: what it takes out, what it leaves, and that no text makes it slow."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.services.body_redaction import redact

KEYS = (
    "sk-live-0123456789abcdefghij",
    "sk-ant-api03-abcdefghijklmnop_qrst",
    "oma_live_0123456789abcdef",
    "gsk_0123456789abcdefghij",
    "hf_0123456789abcdefghij",
    "ghp_0123456789abcdefghij",
    "github_pat_0123456789abcdefghij",
    "xoxb-0123456789-abcdefghij",
    "AIzaSyA0123456789abcdefghij",
    "AKIA0123456789ABCDEF",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("around", ["{}", "my key is {}.", "a\n{}\nb", "KEY={} ", "(`{}`)"])
def test_keys_of_known_shapes_go(key: str, around: str) -> None:
    text = around.format(key)
    for body in (text, json.dumps({"content": text}), json.dumps({"arguments": json.dumps({"command": text})})):
        assert key.encode() not in redact(body.encode())
        assert key[-10:].encode() not in redact(body.encode())


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdefghijkl", "abcdefghijkl"),
        ("authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ('{"password": "hunter2hunter2"}', "hunter2hunter2"),
        ('{"api_key":"gibberish-1"}', "gibberish-1"),
        ("client_secret=verysecret", "verysecret"),
        ('{"access_token": "abcdefgh"}', "abcdefgh"),
        ("token=abcdefghijklmnop12", "abcdefghijklmnop12"),
        ("Set-Cookie: omr_session=abcdefgh", "abcdefgh"),
        ("postgres://me:s3cr3t@db/x", "s3cr3t"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEabcdef\n-----END RSA PRIVATE KEY-----", "MIIEabcdef"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEabcdef", "MIIEabcdef"),
    ],
)
def test_what_looks_like_a_credential_goes(text: str, secret: str) -> None:
    for body in (text, json.dumps({"content": text})):
        assert secret.encode() not in redact(body.encode())


@pytest.mark.parametrize(
    "text",
    [
        "a basic understanding of the bearer of news",
        '{"max_tokens":123456,"usage":{"prompt_tokens":1234567}}',
        '{"token":"Hello there","logprob":-0.1}',
        "task-force-alpha and risk-assessment-2026",
        "https://example.com:8080/a/b?c=d",
        '{"properties":{"password":{"type":"string"}}}',
        "data: [DONE]\n\n",
        "def token(self): return secret",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text.encode()) == text.encode()


def test_given_secrets_go_wherever_they_stand() -> None:
    assert redact(b'{"a":"plain-credential","b":"xplain-credentialx"}', ("plain-credential",)) == (
        b'{"a":"[masked]","b":"x[masked]x"}'
    )


def test_data_urls_lose_their_data() -> None:
    body = b'{"url":"data:image/png;base64,%s"}' % (b"QUJD" * 100)
    assert redact(body) == b'{"url":"data:image/png;base64,[400 characters]"}'
    assert redact(b"data:text/plain;base64,QUJD") == b"data:text/plain;base64,QUJD"


@given(st.binary(max_size=200), st.sampled_from(KEYS), st.binary(max_size=200))
def test_keys_among_any_bytes_go(before: bytes, key: str, after: bytes) -> None:
    assert key.encode() not in redact(before + b" " + key.encode() + b" " + after)


@pytest.mark.parametrize(
    "unit",
    [
        b"A",
        b"sk-",
        b"eyJabcdefghij",
        b"data:",
        b"://a:b",
        b"-----BEGIN ",
        b"bearer ",
        b"password:   ",
        b"secret:",
        b"api_",
    ],
)
def test_no_text_makes_it_slow(unit: bytes) -> None:
    body = (unit * (524_288 // len(unit) + 1))[:524_288]
    began = time.process_time()
    redact(body)
    assert time.process_time() - began < 2.0  # a tenth of a second where nothing else runs
