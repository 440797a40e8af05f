from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_client.masking import mask

SECRET = st.text(string.ascii_letters + string.digits, min_size=12, max_size=40).map("Zq9".__add__)
CARRIERS = (
    "could not connect to postgresql://reader:{}@db.lab:5432/rows?sslmode=require",
    "GET https://{}@hub.example/api 403",
    "Authorization: Bearer {}",
    "authorization: basic {}",
    "password={}&user=me",
    'config {{"api_key": "{}", "user": "me"}}',
    "export AWS_SECRET_ACCESS_KEY={}",
    "hf_token: '{}'",
    "client_secret = {}\nnext line",
)


@pytest.mark.parametrize("carrier", CARRIERS)
@settings(deadline=None)
@given(secret=SECRET)
def test_a_secret_never_survives(carrier: str, secret: str) -> None:
    masked = mask(carrier.format(secret))
    assert secret not in masked
    assert "***" in masked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mysql://root:p@ss/w:rd@db/x refused", "mysql://root:***@db/x refused"),
        ("key AKIAIOSFODNN7EXAMPLE denied", "key *** denied"),
        ("token hf_abcdefghijklmnopqrst is bad", "token *** is bad"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "***"),
    ],
)
def test_the_rest_of_the_text_stays_readable(text: str, expected: str) -> None:
    assert mask(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "loss 0.25 after 1,200 tokens: 384 at most",
        "https://hub.example:8443/models/a@main",
        "spec.dataset.fields.prompt.column: no column 'question'",
        "eos_token='</s>', pad_token: '<pad>'",
        "the tokenizer has 512 tokens",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


@pytest.mark.timeout(10)
@pytest.mark.parametrize("unit", ["a", "://", "token", "://a:", "-----BEGIN PRIVATE KEY-----", "eyJ", "bearer ", "'"])
def test_a_long_line_costs_little(unit: str) -> None:
    mask(unit * 20_000)
