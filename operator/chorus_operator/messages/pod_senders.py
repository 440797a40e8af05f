"""Who sent a message, by what is written on the pod, and whether that pod may say what it says."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chorus_api import contract
from chorus_kube.cache import Cache
from chorus_kube.client import Kube
from chorus_kube.resources import PODS
from chorus_operator.messages.authentication import PodIdentity
from chorus_operator.messages.known import KnownObjects
from chorus_operator.services.tokens import PluginGrant, RunGrant
from chorus_protocol.messages import Addressed, ExchangeReady, FrameFailed, FrameReady, OnlineReport, Payload
from chorus_protocol.parse import Message
from chorus_protocol.refusals import Cause, Refused

POD_SECONDS = 10.0
CACHE_SIZE = 4096
LAST_WORDS = timedelta(seconds=60)
"""How long a pod may speak after it should have ended: as long as the API server takes its token."""


@dataclass(frozen=True)
class TrainingPod:
    """A pod of a run's attempt, as the operator labelled it."""

    namespace: str
    name: str
    uid: str
    run: str
    run_uid: str
    attempt: int
    project_id: int
    plugin_id: int

    @property
    def speaker(self) -> str:
        """Who reports, as `status.report.podUid` has it."""
        return self.uid

    @property
    def instance(self) -> str:
        """Whose sequence numbers those of a message are that names no instance itself."""
        return self.uid


@dataclass(frozen=True)
class ExchangePod(TrainingPod):
    """The exchange of a service's run. It says what it is known by; all else about the attempt the service says."""

    @property
    def speaker(self) -> str:
        """The service whose exchange it is."""
        return contract.SERVICE_SPEAKER


@dataclass(frozen=True)
class ServiceSender(TrainingPod):
    """A service that trains, known by the token that TRAINING_DATA gave it for one attempt, or its service account."""

    pod_uid: str = ""
    """Its pod; "" when it showed the token of TRAINING_DATA, which any pod may hold."""

    @property
    def instance(self) -> str:
        """Its pod, where that is known."""
        return self.pod_uid or self.uid


@dataclass(frozen=True)
class PreparePod:
    """A pod that prepares a Project's frame, as the operator labelled it."""

    namespace: str
    name: str
    uid: str
    project: str
    prepare_key: str
    project_id: int


@dataclass(frozen=True)
class DescribePod:
    """A pod that says what a Plugin's image is and needs, as the operator labelled it."""

    namespace: str
    name: str
    uid: str
    plugin: str
    plugin_uid: str
    generation: int


@dataclass(frozen=True)
class ServicePluginSender(DescribePod):
    """A service that says what it is, known by the token of an inquiry, or its service account."""


@dataclass(frozen=True)
class AccountPod:
    """A pod that Chorus did not make. Whether it is a service's, its service account says with what a message names."""

    namespace: str
    name: str
    account: str
    uid: str


Sender = TrainingPod | PreparePod | DescribePod
_RUN_PODS = {"train": TrainingPod, "exchange": ExchangePod}


class PodSenders:
    """Finds the pod of a token; what is on it cannot change in the seconds that it is remembered."""

    def __init__(
        self,
        kube: Kube,
        *,
        clock: Callable[[], datetime],
        seconds: Callable[[], float],
        known: KnownObjects,
        namespaces: Collection[str] = (),
    ):
        """`namespaces`: those whose pods and services may speak, all when empty. `seconds`: seconds that only rise."""
        self._kube = kube
        self._known = known
        self._clock = clock
        self._namespaces = frozenset(namespaces)
        self._remembered: Cache[str, Sender | AccountPod] = Cache(size=CACHE_SIZE, clock=seconds)

    async def find(self, identity: PodIdentity, *, anew: bool = False) -> Sender | AccountPod:
        """Find who the pod is; Refused (wrongPod) unless it lives, is served and is one that reports, or may be.

        `anew`: ask the API server whether it still lives, even when it is known or was seen a moment ago.
        """
        self.check_namespace(identity.namespace)
        remembered = None if anew else self._remembered.get(identity.uid)
        if remembered is not None:
            return remembered
        sender = None if anew else self._by_what_is_known(identity)
        if sender is None:
            pod = await self._kube.get(PODS, namespace=identity.namespace, name=identity.name)
            sender = self._sender(pod, identity)
        self._remembered.put(identity.uid, sender, seconds=POD_SECONDS)
        return sender

    def _by_what_is_known(self, identity: PodIdentity) -> Sender | AccountPod | None:
        """Tell who the pod is without asking; None when it would be refused: what is known may be behind."""
        pod = self._known.get(PODS, identity.namespace, identity.name)
        if pod is None:
            return None
        try:
            return self._sender(pod, identity)
        except Refused:
            return None

    def _sender(self, pod: dict[str, Any] | None, identity: PodIdentity) -> Sender | AccountPod:
        if pod is None or pod["metadata"]["uid"] != identity.uid or self._is_overdue(pod):
            raise Refused(Cause.WRONG_POD, f"pod {identity.name} with uid {identity.uid} is gone")
        return sender_of(pod, account=identity.account)

    def check_namespace(self, namespace: str) -> None:
        """Refuse (wrongPod) who is in a namespace that is not served."""
        if self._namespaces and namespace not in self._namespaces:
            raise Refused(Cause.WRONG_POD, f"namespace {namespace} is not served by this operator")

    def _is_overdue(self, pod: dict[str, Any]) -> bool:
        """Tell whether the pod should have ended a while ago: its node is lost, and may not know."""
        end = pod["metadata"].get("deletionTimestamp")
        return end is not None and datetime.fromisoformat(end) + LAST_WORDS < self._clock()


def sender_of(pod: dict[str, Any], *, account: str) -> Sender | AccountPod:
    """Tell one of Chorus's pods that report from one that Chorus did not make; Refused (wrongPod) when it is neither.

    All of Chorus's pods have one service account, and no service's pod has: neither passes for the other, whatever its
    labels are.
    """
    metadata = pod["metadata"]
    labels = metadata.get("labels", {})
    marked = contract.ROLE_LABEL in labels or labels.get(contract.MANAGED_BY_LABEL) == contract.MANAGED_BY
    if marked and account != contract.RUN_SERVICE_ACCOUNT:
        raise Refused(
            Cause.WRONG_POD, f"pod {metadata['name']} has labels of Chorus's pods, but service account {account}"
        )
    if not marked and account != contract.RUN_SERVICE_ACCOUNT:
        return AccountPod(metadata["namespace"], metadata["name"], account, metadata["uid"])
    return _own_pod(metadata, labels, metadata.get("annotations", {}))


def _own_pod(metadata: dict[str, Any], labels: dict[str, str], annotations: dict[str, str]) -> Sender:
    """Read the labels and annotations of one of Chorus's pods; Refused (wrongPod) when it is none that reports."""
    try:
        kind = _RUN_PODS.get(labels.get(contract.ROLE_LABEL, ""))
        if kind is not None:
            return kind(
                namespace=metadata["namespace"],
                name=metadata["name"],
                uid=metadata["uid"],
                run=labels[contract.RUN_LABEL],
                run_uid=annotations[contract.RUN_UID_ANNOTATION],
                attempt=int(labels[contract.ATTEMPT_LABEL]),
                project_id=int(annotations[contract.PROJECT_ID_ANNOTATION]),
                plugin_id=int(annotations[contract.PLUGIN_ID_ANNOTATION]),
            )
        if labels.get(contract.ROLE_LABEL) == "prepare":
            return PreparePod(
                namespace=metadata["namespace"],
                name=metadata["name"],
                uid=metadata["uid"],
                project=labels[contract.PROJECT_LABEL],
                prepare_key=labels[contract.PREPARE_KEY_LABEL],
                project_id=int(annotations[contract.PROJECT_ID_ANNOTATION]),
            )
        if labels.get(contract.ROLE_LABEL) == "describe":
            return DescribePod(
                namespace=metadata["namespace"],
                name=metadata["name"],
                uid=metadata["uid"],
                plugin=labels[contract.DESCRIBES_LABEL],
                plugin_uid=annotations[contract.PLUGIN_UID_ANNOTATION],
                generation=int(annotations[contract.PLUGIN_GENERATION_ANNOTATION]),
            )
    except (KeyError, ValueError) as error:
        raise Refused(Cause.WRONG_POD, f"pod {metadata['name']} lacks a label of Chorus: {error}") from None
    raise Refused(Cause.WRONG_POD, f"pod {metadata['name']} is not one of Chorus's pods that report")


def service_sender(grant: RunGrant, *, pod_uid: str = "") -> ServiceSender:
    """Name the service that a token was given to; `pod_uid`: its pod, where it showed that pod's own token."""
    return ServiceSender(
        namespace=grant.namespace,
        name=f"service of {grant.name}",
        uid=contract.SERVICE_SPEAKER,
        run=grant.name,
        run_uid=grant.uid,
        attempt=grant.attempt,
        project_id=grant.project_id,
        plugin_id=grant.plugin_id,
        pod_uid=pod_uid,
    )


def service_plugin(grant: PluginGrant) -> ServicePluginSender:
    """Name the service that was asked what it is."""
    return ServicePluginSender(
        namespace=grant.namespace,
        name=f"service of Plugin {grant.name}",
        uid=contract.SERVICE_SPEAKER,
        plugin=grant.name,
        plugin_uid=grant.uid,
        generation=grant.generation,
    )


def check_training(pod: TrainingPod, message: Message) -> Addressed:
    """Check that a run's pod speaks for its own run and attempt; the payload, or Refused."""
    envelope, payload = message.envelope, message.payload
    if not isinstance(payload, Addressed) or isinstance(payload, ExchangeReady) != isinstance(pod, ExchangePod):
        raise Refused(Cause.WRONG_POD, f"{envelope.type} is not a message of {pod.name}")
    if envelope.subject_uid != pod.run_uid:
        raise Refused(
            Cause.WRONG_RUN,
            f"subjectuid {envelope.subject_uid} is not the uid of the sender's run {pod.run}, {pod.run_uid}",
        )
    if envelope.attempt != pod.attempt:
        raise Refused(
            Cause.WRONG_ATTEMPT, f"attempt {envelope.attempt} is not that of {pod.name}, which is {pod.attempt}"
        )
    _same_id("project_id", payload.project_id, pod.project_id)
    _same_id("plugin_id", payload.plugin_id, pod.plugin_id)
    return payload


def check_prepare(pod: PreparePod, payload: Payload, *, kind: str) -> FrameReady | FrameFailed:
    """Check that a prepare pod speaks for its own Project and key; the payload, or Refused."""
    if not isinstance(payload, FrameReady | FrameFailed):
        raise Refused(Cause.WRONG_POD, f"{kind} is not a prepare pod's message")
    _same_id("project_id", payload.project_id, pod.project_id)
    if payload.prepare_key != pod.prepare_key:
        raise Refused(
            Cause.WRONG_IDS,
            f"prepare_key {payload.prepare_key[:63]!r} is not that of the pod, {pod.prepare_key!r}",
        )
    return payload


def check_describe(pod: DescribePod, message: Message) -> OnlineReport:
    """Check that a describe pod, or a service, speaks for its own Plugin; the payload, or Refused."""
    envelope, payload = message.envelope, message.payload
    if not isinstance(payload, OnlineReport):
        raise Refused(Cause.WRONG_POD, f"{envelope.type} is not a message of {pod.name}: it was asked what it is")
    if envelope.subject_uid != pod.plugin_uid:
        raise Refused(
            Cause.WRONG_IDS,
            f"subjectuid {envelope.subject_uid} is not the uid of the pod's Plugin {pod.plugin}, {pod.plugin_uid}",
        )
    return payload


def _same_id(name: str, given: int, expected: int) -> None:
    if given != expected:
        raise Refused(Cause.WRONG_IDS, f"{name} {given} is not that of the sender's run, {expected}")
