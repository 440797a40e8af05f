"""Where a service may not be, however it is spelt."""

from __future__ import annotations

import pytest

from chorus_operator.decisions.service_address import url_problem


@pytest.mark.parametrize(
    "url",
    [
        "https://trainer.example.org/chorus",
        "http://trainer.lab.svc:8080/chorus?team=lab",
        "https://10.1.2.3:8443/",
        "https://[fd12:3456::7]/",
        "https://kubernetes.example.org/",
        "https://metadata.example.org/",
    ],
)
def test_a_service_may_be_anywhere_else(url: str) -> None:
    assert url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://trainer.example.org", "must be http"),
        ("trainer.example.org", "must be http"),
        ("https:///path", "must be http"),
        ("https://trainer.example.org:port/", "no URL"),
        ("https://me:secret@trainer.example.org/", "no password"),
        ("https://token@trainer.example.org/", "no user"),
        ("https://trainer.example.org/#part", "no fragment"),
        ("http://localhost/", "this machine"),
        ("http://a.LOCALHOST./", "this machine"),
        ("http://127.0.0.1:8080/", "this machine"),
        ("http://0.0.0.0/", "this machine"),
        ("http://[::1]/", "this machine"),
        ("http://[::ffff:127.0.0.1]/", "this machine"),
        ("http://169.254.169.254/latest", "link-local"),
        ("http://[fe80::1%25eth0]/", "link-local"),
        ("http://[::ffff:a9fe:a9fe]/", "link-local"),
        ("http://[64:ff9b::a9fe:a9fe]/", "link-local"),
        ("http://[2002:a9fe:a9fe::]/", "link-local"),
        ("http://[fd00:ec2::254]/", "metadata"),
        ("https://2130706433/", "four decimal numbers"),
        ("https://trainer.example%25.evil.example/", "no name and no address"),
        ("http://100.100.100.200/", "metadata"),
        ("http://metadata.google.internal/", "metadata"),
        ("https://kubernetes.default/", "API server"),
        ("https://kubernetes.default.svc:443/api", "API server"),
        ("https://Kubernetes.Default.svc.cluster.local./", "API server"),
        ("http://224.0.0.1/", "multicast or broadcast"),
        ("http://255.255.255.255/", "multicast or broadcast"),
    ],
)
def test_a_url_that_is_refused_says_why(url: str, why: str) -> None:
    problem = url_problem(url)
    assert problem is not None
    assert why in problem


def test_the_secret_in_a_url_is_not_repeated() -> None:
    assert "secret" not in (url_problem("https://me:secret@trainer.example.org/") or "")
