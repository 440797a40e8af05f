"""A run of a service with everybody who may speak for it, and two receivers that share a fake API server."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from chorus_kube.resources import TRAINING_RUNS
from chorus_operator.messages.inbox import Inbox
from chorus_operator.messages.runs import Outcome
from chorus_operator.services.tokens import RunGrant, ServiceTokens
from chorus_operator.settings import TokenCheck
from fakes import FakeKube
from message_builders import (
    PLUGIN_ID,
    PROJECT_ID,
    accepted_by_service,
    message,
    service_config,
    service_pod,
    training_pod,
    training_run,
)
from token_builders import Signer, discovery, token_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOKENS = ServiceTokens(b"k" * 32)
SIGNER = Signer()
RUN = "home-far-1"
Manifest = dict[str, Any]


@dataclass
class Env:
    """A run that two pods of a service and a training pod may speak for, and two receivers.

    `tokens` holds what each shows: `far-0`, `far-1`, `train`, and `told` for the token of TRAINING_DATA.
    """

    token_check: TokenCheck = TokenCheck.REVIEW
    kube: FakeKube = field(default_factory=FakeKube)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.run = self.accept(training_run(RUN))
        self.kube.issuer = discovery(SIGNER)
        self.receivers = [self._receiver() for _ in range(2)]
        self.tokens = {name: self.token_of(service_pod(name=name)) for name in ("far-0", "far-1")}
        self.tokens["train"] = self.token_of(training_pod(self.run))
        grant = RunGrant(
            namespace="default", name=RUN, uid=self.uid, attempt=1, project_id=PROJECT_ID, plugin_id=PLUGIN_ID
        )
        self.tokens["told"] = TOKENS.issue(grant, expires=NOW + timedelta(days=1))

    def accept(self, manifest: Manifest, **config: Any) -> Manifest:
        """Make a run that was accepted with a configuration of a service."""
        run = self.kube.put(manifest)
        return self.kube.put(accepted_by_service(run, self.kube.put(service_config(run, **config))))

    def _receiver(self) -> Inbox:
        return Inbox(
            self.kube,  # type: ignore[arg-type]
            clock=lambda: NOW + timedelta(seconds=self.seconds),
            seconds=lambda: self.seconds,
            tokens=TOKENS,
            token_check=self.token_check,
        )

    def token_of(self, manifest: Manifest) -> str:
        """Add a pod; the token of its service account, as the API server binds it to the pod."""
        return token_of(self.kube, SIGNER, manifest)

    @property
    def uid(self) -> str:
        """Uid of the run."""
        return str(self.run["metadata"]["uid"])

    async def say(
        self, who: str, kind: str, *, sequence: int = 1, instance: str | None = None, receiver: int = 0, **data: Any
    ) -> Outcome:
        """Send a message about the run."""
        attributes = {"subject": RUN, "instance": instance}
        body = message(kind, subject=self.uid, sequence=sequence, attributes=attributes, **data)
        return await self.send(body, token=self.tokens[who], receiver=receiver)

    async def send(self, body: bytes, *, token: str, receiver: int = 0) -> Outcome:
        """Send a body to a receiver."""
        inbox = self.receivers[receiver]
        identity = await inbox.identify(f"Bearer {token}")
        with inbox.admit(identity):
            return await inbox.take(identity, body)

    async def flush(self) -> None:
        """Write the progress that is not written."""
        for inbox in self.receivers:
            await inbox.progress.flush()

    def stored(self) -> Manifest:
        """Read the run."""
        run = self.kube.find(TRAINING_RUNS, RUN)
        assert run is not None
        return run

    def calls(self, verb: str, kind: str) -> int:
        """Count what the API server was asked for."""
        return sum((call.verb, call.kind) == (verb, kind) for call in self.kube.calls)

    def report(self) -> Manifest:
        """Read what has been reported about the run."""
        report: Manifest = self.stored()["status"].get("report", {})
        return report

    def progress(self) -> Manifest:
        """Read how far the run is."""
        progress: Manifest = self.stored()["status"]["progress"]
        return progress
