"""What happens to a message between the socket and the API server: identify, parse, check, store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime

from chorus_kube.client import Kube
from chorus_kube.errors import Invalid, KubeError
from chorus_operator.messages.accounts import ServiceAccounts
from chorus_operator.messages.authentication import (
    Authenticator,
    Identity,
    PodIdentity,
    TokenReviews,
    bearer_token,
    service_of,
)
from chorus_operator.messages.frames import Frames
from chorus_operator.messages.known import KnownObjects, NothingKnown
from chorus_operator.messages.limits import charge_message, charge_unread, is_service_pod, sender_bucket
from chorus_operator.messages.plugins import PluginReports
from chorus_operator.messages.pod_senders import (
    AccountPod,
    DescribePod,
    ExchangePod,
    PodSenders,
    PreparePod,
    Sender,
    ServicePluginSender,
    ServiceSender,
    TrainingPod,
    check_describe,
    check_prepare,
    check_training,
    service_plugin,
    service_sender,
)
from chorus_operator.messages.progress import ProgressBook
from chorus_operator.messages.published_keys import PublishedKeys
from chorus_operator.messages.run_locks import RunLocks
from chorus_operator.messages.runs import Outcome, RunReports
from chorus_operator.messages.under_way import OF_SENDER, OF_SERVICE_POD, UnderWay
from chorus_operator.services.tokens import Grant, RunGrant, ServiceTokens, is_ours
from chorus_operator.settings import TokenCheck
from chorus_protocol.kubeflow import KUBEFLOW_INSTANCE, read_progress
from chorus_protocol.messages import Envelope, MessageType, ProgressReport
from chorus_protocol.parse import Message, parse
from chorus_protocol.refusals import Cause, Refused
from chorus_protocol.sender_limits import SenderLimits

_NO_MESSAGE = {Cause.MALFORMED, Cause.UNKNOWN_TYPE, Cause.TOO_LARGE}


class Inbox:
    """The receiver without its socket. Belongs to one event loop."""

    def __init__(
        self,
        kube: Kube,
        *,
        clock: Callable[[], datetime],
        seconds: Callable[[], float],
        tokens: ServiceTokens,
        token_check: TokenCheck = TokenCheck.REVIEW,
        namespaces: Collection[str] = (),
        known: KnownObjects | None = None,
    ):
        """`clock`: the time that is written; `seconds`: seconds that only rise; `namespaces`: all when empty.

        `tokens` knows the tokens that services were given. `known`: what needs not be read; without it all is.
        """
        known, locks = known or NothingKnown(), RunLocks()
        keys = PublishedKeys(kube, clock=clock, seconds=seconds)
        self._authenticator: Authenticator
        match token_check:
            case TokenCheck.REVIEW:
                self._authenticator = TokenReviews(kube, clock=seconds, first=keys)
            case TokenCheck.PUBLISHED_KEYS:
                self._authenticator = keys
        # A TokenReview looks for the pod too. Who does not ask for it must look each time that it counts.
        self._looks_anew = token_check is TokenCheck.PUBLISHED_KEYS
        self._clock = clock
        self._tokens = tokens
        self._limits = SenderLimits(seconds=seconds)
        self.under_way = UnderWay()
        self._senders = PodSenders(kube, clock=clock, seconds=seconds, known=known, namespaces=namespaces)
        self._accounts = ServiceAccounts(kube, seconds=seconds)
        self._reports = RunReports(kube, clock=clock, seconds=seconds, known=known, locks=locks)
        self._frames = Frames(kube)
        self._plugins = PluginReports(kube, clock=clock)
        self.progress = ProgressBook(kube, clock=clock, known=known, locks=locks)
        self.taken: Counter[tuple[MessageType, Outcome]] = Counter()
        """Messages acknowledged since the start."""

    async def start(self) -> None:
        """Try whether tokens can be checked; KubeError when they cannot."""
        await self._authenticator.start()

    async def identify(self, authorization: str | None, *, peer: str = "") -> Identity:
        """Find the pod or the service behind an Authorization header from this address; Refused when there is none."""
        token = bearer_token(authorization)
        if is_ours(token):
            return service_of(token, self._tokens, now=self._clock())
        try:
            return await self._authenticator.identify(token, peer=peer)
        except KubeError as error:
            raise _unavailable(error) from error

    @contextmanager
    def admit(self, identity: Identity) -> Iterator[None]:
        """Let a message be read and taken in this block; Refused (tooManyMessages) when its sender sends too much.

        A body that turns out to be no message counts against the ones that follow.
        """
        sender = sender_bucket(identity)
        limit = OF_SERVICE_POD if is_service_pod(identity) else OF_SENDER
        with self.under_way.one_more(sender=sender, namespace=identity.namespace, limit=limit):
            charge_unread(self._limits, identity)
            try:
                yield
            except Refused as refused:
                if refused.cause in _NO_MESSAGE:
                    self._limits.charge_malformed(sender=sender)
                raise

    async def take(self, identity: Identity, body: bytes) -> Outcome:
        """Take one message; it is stored when this returns (progress: it is kept). Else Refused."""
        message = parse(body)
        stored = message.envelope.type is not MessageType.PROGRESS
        remembered = self._accounts.remembers(identity.namespace, message)
        about = message.envelope.subject_uid
        charge_message(self._limits, identity, stored=stored, about=about, remembered=remembered)
        try:
            sender = await self._sender(identity, anew=self._looks_anew and stored)
            if isinstance(sender, AccountPod):
                sender = _service(await self._accounts.grant(sender, message), pod_uid=sender.uid)
            outcome = await self._store(sender, message)
        except Invalid as error:
            raise Refused(Cause.MALFORMED, f"the API server refuses what the message says: {error}"[:1000]) from error
        except KubeError as error:
            raise _unavailable(error) from error
        self.taken[message.envelope.type, outcome] += 1
        return outcome

    async def take_progress(self, identity: Identity, body: bytes) -> Outcome:
        """Take progress of a training pod, or of a service, in Kubeflow Trainer's wire form. Else Refused."""
        charge_message(self._limits, identity, stored=False)
        try:
            sender = await self._sender(identity, anew=False)
            if isinstance(sender, AccountPod):
                raise Refused(
                    Cause.WRONG_POD,
                    f"pod {sender.name} is not one of Chorus's pods that report, and progress in this form does not "
                    "say which run it is about; a service sends the message `progress`, or shows the token of "
                    "TRAINING_DATA",
                )
            if not isinstance(sender, TrainingPod) or isinstance(sender, ExchangePod):
                raise Refused(Cause.WRONG_POD, f"{identity.name} does not train")
            payload = read_progress(body, project_id=sender.project_id, plugin_id=sender.plugin_id)
            envelope = Envelope(
                id=f"{sender.uid}-progress",
                source=f"/namespaces/{sender.namespace}/pods/{sender.name}",
                type=MessageType.PROGRESS,
                subject_uid=sender.run_uid,
                attempt=sender.attempt,
                sequence=self.progress.next_sequence(sender, KUBEFLOW_INSTANCE),
                instance=KUBEFLOW_INSTANCE,
            )
            outcome = await self._progress(sender, envelope, payload)
        except KubeError as error:
            raise _unavailable(error) from error
        self.taken[MessageType.PROGRESS, outcome] += 1
        return outcome

    async def _sender(self, identity: Identity, *, anew: bool) -> Sender | AccountPod:
        if isinstance(identity, PodIdentity):
            return await self._senders.find(identity, anew=anew)
        self._senders.check_namespace(identity.namespace)
        return _service(identity.grant)

    async def _store(self, sender: Sender, message: Message) -> Outcome:
        envelope = message.envelope
        if isinstance(sender, PreparePod):
            result = check_prepare(sender, message.payload, kind=envelope.type)
            return await self._frames.take(sender, subject_uid=envelope.subject_uid, payload=result)
        if isinstance(sender, DescribePod):
            return await self._plugins.take(sender, check_describe(sender, message))
        payload = check_training(sender, message)
        if not isinstance(payload, ProgressReport):
            return await self._reports.take(sender, envelope=envelope, payload=payload)
        return await self._progress(sender, envelope, payload)

    async def _progress(self, sender: TrainingPod, envelope: Envelope, payload: ProgressReport) -> Outcome:
        if not await self._reports.is_open(sender):
            return Outcome.KNOWN
        new = self.progress.offer(sender, envelope=envelope, payload=payload)
        return Outcome.TAKEN if new else Outcome.KNOWN


def _service(grant: Grant, *, pod_uid: str = "") -> ServiceSender | ServicePluginSender:
    return service_sender(grant, pod_uid=pod_uid) if isinstance(grant, RunGrant) else service_plugin(grant)


def _unavailable(error: KubeError) -> Refused:
    return Refused(Cause.UNAVAILABLE, f"the API server could not be asked: {error}"[:500])
