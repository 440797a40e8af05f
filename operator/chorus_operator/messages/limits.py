"""What a message is charged for before anything is read for it, and whom it is charged to."""

from __future__ import annotations

from collections.abc import Hashable

from chorus_api.contract import RUN_SERVICE_ACCOUNT
from chorus_operator.messages.authentication import Identity, PodIdentity
from chorus_operator.services.tokens import RunGrant
from chorus_protocol.sender_limits import Cost, SenderLimits


def charge_unread(limits: SenderLimits, identity: Identity) -> None:
    """Charge for a message before its body is read; Refused when its sender sends too much, or what is no message."""
    sender = sender_bucket(identity)
    limits.check_malformed(sender=sender)
    cost = Cost.SERVICE_MESSAGE if is_service_pod(identity) else Cost.MESSAGE
    limits.charge(cost, sender=sender, namespace=identity.namespace)


def charge_message(
    limits: SenderLimits, identity: Identity, *, stored: bool, about: str = "", remembered: bool = True
) -> None:
    """Charge for a message that was read, before anything is looked up for it; `stored`: it is not progress.

    A service's pod may serve many runs and Plugins, so each counts by itself: `about` is the uid that the message
    claims. One that is made up is not `remembered`, and takes a token of the pod's own.
    """
    sender = sender_bucket(identity)
    if is_service_pod(identity):
        if not remembered:
            limits.charge(Cost.LOOKUP, sender=sender, namespace=identity.namespace)
        sender = (about, sender)
    limits.charge(Cost.REPORT if stored else Cost.PROGRESS, sender=sender, namespace=identity.namespace)


def sender_bucket(identity: Identity) -> Hashable:
    """Name a sender by its pod, or by what its token grants: an attempt of a run, or a generation of a Plugin."""
    if isinstance(identity, PodIdentity):
        return identity.uid
    grant = identity.grant
    return (grant.uid, grant.attempt if isinstance(grant, RunGrant) else grant.generation)


def is_service_pod(identity: Identity) -> bool:
    """Tell whether it is a pod that may be a service's: it has not the account of Chorus's pods."""
    return isinstance(identity, PodIdentity) and identity.account != RUN_SERVICE_ACCOUNT
