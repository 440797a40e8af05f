"""What a message is charged for before anything is read for it, and whom it is charged to."""

from __future__ import annotations

from collections.abc import Hashable

from chorus_api.contract import RUN_SERVICE_ACCOUNT
from chorus_operator.messages.authentication import Identity, PodIdentity
from chorus_operator.messages.buckets import Cost, SenderLimits
from chorus_operator.services.tokens import RunGrant


def charge_message(limits: SenderLimits, identity: Identity, *, stored: bool) -> None:
    """Charge for a message before anything is read for it; `stored`: it is not progress.

    What a service's pod stores is charged for when it is known which run or Plugin the pod may speak for: one pod
    may serve many.
    """
    sender = sender_key(identity)
    limits.charge(Cost.MESSAGE, sender=sender, namespace=identity.namespace)
    if stored and not is_service_pod(identity):
        limits.charge(Cost.REPORT, sender=sender, namespace=identity.namespace)


def sender_key(identity: Identity) -> Hashable:
    """Name a sender by its pod, or by what its token grants: an attempt of a run, or a generation of a Plugin."""
    if isinstance(identity, PodIdentity):
        return identity.uid
    grant = identity.grant
    return (grant.uid, grant.attempt if isinstance(grant, RunGrant) else grant.generation)


def is_service_pod(identity: Identity) -> bool:
    """Tell whether it is a pod that may be a service's: it has not the account of Chorus's pods."""
    return isinstance(identity, PodIdentity) and identity.account != RUN_SERVICE_ACCOUNT
