"""A real receiver against the real API server, with real pods (that never start) and their real tokens."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from chorus_api.contract import AUDIENCE, MESSAGES_PATH, RUN_SERVICE_ACCOUNT
from chorus_kube.client import Kube
from chorus_operator.ca import load_authority
from chorus_operator.messages.receiver import Receiver
from chorus_operator.settings import TokenCheck
from harness.apiserver import ControlPlane
from harness.client import Api, Manifest
from message_builders import (
    accepted_by_service,
    message,
    prepare_pod,
    project,
    service_account,
    service_config,
    service_pod,
    training_pod,
    training_run,
)

OPERATOR_NAMESPACE = "chorus-system"
SERVING_SECONDS = 15.0


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Speaker:
    """A pod with its token, and what it speaks about."""

    pod: Manifest
    token: str
    subject: str
    attempt: int


class MessageHarness:
    """Receivers with the operator's own rights, and a namespace with what messages are about."""

    def __init__(self, control_plane: ControlPlane, api: Api, namespace: str, receivers: Sequence[Receiver]):
        self.control_plane = control_plane
        self.api = api
        self.namespace = namespace
        self.receivers = receivers
        self.session = aiohttp.ClientSession()
        self.context = ssl.create_default_context()

    async def run(self, name: str = "home-soft-1", *, attempt: int = 1) -> Manifest:
        """Create a run at an attempt."""
        manifest = training_run(name, attempt=attempt)
        manifest["metadata"]["namespace"] = self.namespace
        await self.api.create({key: value for key, value in manifest.items() if key != "status"})
        return await self.set_status(name, manifest["status"])

    async def set_status(self, name: str, status: Manifest) -> Manifest:
        """Write into a run's status, as the reconciler does."""
        return await self.api.patch(
            "TrainingRun", name, {"status": status}, namespace=self.namespace, subresource="status"
        )

    async def status(self, name: str = "home-soft-1") -> Manifest:
        """Read a run's status."""
        status: Manifest = (await self.api.get("TrainingRun", name, namespace=self.namespace))["status"]
        return status

    async def project(self, name: str = "home") -> Manifest:
        """Create a Project."""
        manifest = project(name)
        manifest["metadata"]["namespace"] = self.namespace
        return await self.api.create(manifest)

    async def training(self, run: Manifest, *, name: str = "pod-1", attempt: int = 1) -> Speaker:
        """Create the pod of a run's attempt."""
        pod = await self.api.create(training_pod(run, name=name, attempt=attempt))
        return Speaker(pod, await self.token(pod), run["metadata"]["uid"], attempt)

    async def preparing(self, owner: Manifest, *, name: str = "prepare-1", key: str = "abc123") -> Speaker:
        """Create the pod that prepares a Project's frame."""
        pod = await self.api.create(prepare_pod(owner, name=name, key=key))
        return Speaker(pod, await self.token(pod), owner["metadata"]["uid"], 0)

    async def accepted(self, run: Manifest, *, account: str) -> Manifest:
        """Write down that a run was accepted with a service that has an account."""
        config = await self.api.create(service_config(run, account=account))
        status = {"status": accepted_by_service(run, config)["status"]}
        await self.api.patch(
            "TrainingRun", run["metadata"]["name"], status, namespace=self.namespace, subresource="status"
        )
        return config

    async def serving(self, run: Manifest, *, account: str) -> Speaker:
        """Create a pod of a service that has an account of its own."""
        await self.api.create(service_account(account, namespace=self.namespace))
        pod = await self.api.create(service_pod(account=account, name=f"{account}-0", namespace=self.namespace))
        return Speaker(pod, await self.token(pod), run["metadata"]["uid"], 1)

    async def token(self, pod: Manifest | None, *, audience: str | None = AUDIENCE) -> str:
        """Ask for a token of the pod's service account, bound to the pod; without one, of that of Chorus's pods."""
        account = pod["spec"]["serviceAccountName"] if pod is not None else RUN_SERVICE_ACCOUNT
        return await self.control_plane.token_for(account, namespace=self.namespace, audience=audience, pod=pod)

    async def say(self, speaker: Speaker, kind: str, *, receiver: int = 0, **data: Any) -> int:
        """Send one message of a pod; the HTTP status."""
        fields = {"subject": speaker.subject, "attempt": speaker.attempt, **data}
        return (await self.post(message(kind, **fields), token=speaker.token, receiver=receiver))[0]

    async def post(self, body: bytes, *, token: str | None, receiver: int = 0) -> tuple[int, Manifest]:
        """Send a body; the HTTP status and what the answer says."""
        headers = {"Content-Type": "application/cloudevents+json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        url = f"https://localhost:{self.receivers[receiver].port}{MESSAGES_PATH}"
        async with self.session.post(url, data=body, headers=headers, ssl=self.context) as answer:
            return answer.status, json.loads(await answer.read() or b"{}")


@asynccontextmanager
async def message_harness(
    control_plane: ControlPlane,
    api: Api,
    namespace: str,
    *,
    receivers: int = 1,
    token_check: TokenCheck = TokenCheck.REVIEW,
) -> AsyncIterator[MessageHarness]:
    """Start receivers, each with a client of its own as in replicas, and end them."""
    kubeconfig = str(await control_plane.kubeconfig_for("chorus-operator", namespace=OPERATOR_NAMESPACE))
    async with await Kube.connect(kubeconfig) as kube:
        authority = await load_authority(kube, namespace=OPERATOR_NAMESPACE, clock=now)
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(receivers):
            receiver = Receiver(
                connect=lambda: Kube.connect(kubeconfig),
                authority=authority,
                hosts=["localhost"],
                port=0,
                clock=now,
                address="127.0.0.1",
                token_check=token_check,
            )
            receiver.start()
            stack.push_async_callback(_end, receiver)
            started.append(receiver)
        stage = MessageHarness(control_plane, api, namespace, started)
        stage.context = ssl.create_default_context(cadata=authority.certificate.decode())
        stack.push_async_callback(stage.session.close)
        await api.create(service_account(RUN_SERVICE_ACCOUNT, namespace=namespace))
        for receiver in started:
            await until(lambda receiver=receiver: receiver.serving or receiver.ended.done())  # type: ignore[misc]
            assert receiver.serving, receiver.ended.exception()
        yield stage


async def _end(receiver: Receiver) -> None:
    receiver.stop()
    await until(receiver.ended.done)


async def until(condition: Callable[[], bool], *, seconds: float = SERVING_SECONDS) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.01)


# Tokens that the API server did not give


def claims_of(token: str) -> Manifest:
    """Read what a token says."""
    claims: Manifest = json.loads(_decode(token.split(".")[1]))
    return claims


def signed(token: str, claims: Manifest, *, key_file: Path | None) -> str:
    """Make a token with other claims: signed by the cluster's own key, or, without `key_file`, by a stranger's."""
    if key_file is None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        loaded = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        assert isinstance(loaded, rsa.RSAPrivateKey)
        key = loaded
    payload = json.dumps(claims, separators=(",", ":"))
    text = f"{token.split('.')[0]}.{_encode(payload.encode())}"
    return f"{text}.{_encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
