"""Which credentials a client is opened with."""

from __future__ import annotations

import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from kubernetes.aio.config import incluster_config

from chorus_kube.client import Kube
from chorus_operator.ca import make_ca


@pytest.fixture
def service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay out what the kubelet gives a pod, and go to where it is."""
    ca = make_ca(now=datetime.datetime.now(datetime.UTC)).certificate
    (tmp_path / "ca.crt").write_bytes(ca)
    (tmp_path / "token").write_text("first")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


async def test_a_pod_uses_its_service_account_and_notices_a_new_token(
    service_account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await Kube.connect() as kube:
        credentials = await kube.credentials()
        assert (credentials.server, credentials.token) == ("https://10.96.0.1:443", "first")
        assert credentials.ca_file == str(service_account / "ca.crt")
        (service_account / "token").write_text("second")
        later = SimpleNamespace(now=lambda: datetime.datetime.now() + datetime.timedelta(minutes=2))
        monkeypatch.setattr(incluster_config, "datetime", SimpleNamespace(datetime=later, timedelta=datetime.timedelta))
        assert (await kube.credentials()).token == "second"


async def test_a_kubeconfig_wins(service_account: Path) -> None:
    config = service_account / "config"
    config.write_text(
        "clusters: [{name: c, cluster: {server: 'https://elsewhere:6443', insecure-skip-tls-verify: true}}]\n"
        "users: [{name: u, user: {token: mine}}]\n"
        "contexts: [{name: x, context: {cluster: c, user: u}}]\n"
        "current-context: x\n"
    )
    async with await Kube.connect(str(config)) as kube:
        credentials = await kube.credentials()
    assert (credentials.server, credentials.token, credentials.insecure) == ("https://elsewhere:6443", "mine", True)
