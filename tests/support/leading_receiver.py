"""A receiver beside the stores of the process that leads, which know what a test says: they may be behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from chorus_kube.resources import PODS, TRAINING_RUNS, Resource
from chorus_operator.messages.inbox import Inbox
from chorus_operator.messages.known import StoresBeside
from chorus_operator.messages.runs import Outcome
from chorus_operator.reconcile.stores import Stores
from chorus_operator.services.tokens import ServiceTokens
from chorus_operator.settings import TokenCheck
from fakes import FakeKube
from message_builders import message, training_pod, training_run
from token_builders import Signer, discovery, token_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = "home-soft-1"
SIGNER = Signer()
Manifest = dict[str, Any]


class LeadingReceiver:
    """A run with its pod, both known, and a receiver. Use `started`."""

    def __init__(self, *, token_check: TokenCheck = TokenCheck.REVIEW) -> None:
        self.kube = FakeKube()
        self.kube.issuer = discovery(SIGNER)
        self.changes: list[tuple[str, bool, bool]] = []
        """What the leader was told of: the name, whether it is gone, and whether the operator itself wrote it."""
        self.stores = Stores(self.kube, on_change=self._note)  # type: ignore[arg-type]
        self.known = StoresBeside(self.stores, loop=asyncio.get_running_loop())
        self.known.open = True
        self.seconds = 0.0
        self.tokens: dict[str, str] = {}
        self.run = self.put_run()
        self.pod = self.put_pod(training_pod(self.run))
        self.catch_up()
        self.inbox = Inbox(
            self.kube,  # type: ignore[arg-type]
            clock=lambda: NOW + timedelta(seconds=self.seconds),
            seconds=lambda: self.seconds,
            tokens=ServiceTokens(b"k" * 32),
            token_check=token_check,
            known=self.known,
        )

    @classmethod
    async def started(cls, *, token_check: TokenCheck = TokenCheck.REVIEW) -> Self:
        """Make it, and let the receiver read what it reads at its start."""
        made = cls(token_check=token_check)
        await made.inbox.start()
        made.asked()
        return made

    def _note(self, resource: Resource, deleted: bool, stored: Manifest, own: bool) -> None:
        self.changes.append((stored["metadata"]["name"], deleted, own))

    # What there is, and what is known of it

    def put_run(self, **status: Any) -> Manifest:
        """Make the run, or give it another status; the stores are not told."""
        before = self.kube.find(TRAINING_RUNS, RUN) or training_run()
        return self.kube.put({**before, "status": {**before["status"], **status}})

    def put_pod(self, manifest: Manifest) -> Manifest:
        """Make a pod with a token; the stores are not told."""
        self.tokens[manifest["metadata"]["name"]] = token_of(self.kube, SIGNER, manifest)
        stored = self.kube.find(PODS, manifest["metadata"]["name"])
        assert stored is not None
        return stored

    def catch_up(self) -> None:
        """Have the stores told of everything, as by their watches."""
        for resource in (TRAINING_RUNS, PODS):
            for stored in self.kube.all(resource):
                self.stores.seen(resource, stored)

    # What is said

    async def say(self, kind: str, *, by: str = "pod-1", run: Manifest | None = None, **data: Any) -> Outcome:
        """Send a message of a pod about its run."""
        identity = await self.inbox.identify(f"Bearer {self.tokens[by]}")
        uid = (run or self.run)["metadata"]["uid"]
        return await self.inbox.take(identity, message(kind, subject=uid, **data))

    async def arrived(self) -> None:
        """Wait until what the receiver was answered has crossed to the stores."""
        await asyncio.sleep(0)

    # What became of it

    def status(self) -> Manifest:
        """Read the run's status."""
        stored = self.kube.find(TRAINING_RUNS, RUN)
        assert stored is not None
        status: Manifest = stored["status"]
        return status

    def asked(self) -> Counter[str]:
        """Count what the API server was asked for since this was counted last: by verb, with the kind that was read."""
        calls = Counter(
            f"{call.verb} {call.kind}" if call.verb in {"get", "list"} else call.verb for call in self.kube.calls
        )
        self.kube.calls.clear()
        return calls
