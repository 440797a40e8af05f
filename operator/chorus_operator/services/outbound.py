"""What services are told: TRAINING_DATA and ONLINE_INQUIRY, each with what is needed to answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cloudevents.core.bindings.http import to_structured_event
from cloudevents.core.v1.event import CloudEvent

from chorus_api.contract import EXCHANGE_ARTEFACT, EXCHANGE_FRAME, EXCHANGE_PORT, RECIPIENT_ATTRIBUTE
from chorus_api.ids import message_id
from chorus_api.plugin import Plugin
from chorus_api.run_config import FrozenRun
from chorus_operator.services.client import OutboundMessage
from chorus_operator.services.subjects import plugin_subject
from chorus_operator.services.tokens import PLUGIN_LIFETIME, RUN_LIFETIME, PluginGrant, RunGrant, ServiceTokens
from chorus_protocol.messages import TYPE_PREFIX, MessageType, TrainingData


@dataclass(frozen=True)
class ReturnAddress:
    """Where services answer, and the certificate (PEM) that they know us by."""

    messages_url: str
    messages_ca: str


def run_token(tokens: ServiceTokens, config: FrozenRun, *, attempt: int, created: datetime) -> str:
    """Make the token of an attempt, the same each time; `created`: when the run was."""
    grant = RunGrant(
        namespace=config.namespace,
        name=config.run_name,
        uid=config.run_uid,
        attempt=attempt,
        project_id=config.project_id,
        plugin_id=config.plugin_id,
    )
    return tokens.issue(grant, expires=created + RUN_LIFETIME)


def about_attempt(run_uid: str, attempt: int) -> str:
    """Say what TRAINING_DATA of an attempt is about."""
    return f"{run_uid}-{attempt}"


def training_data(
    config: FrozenRun,
    address: ReturnAddress,
    *,
    attempt: int,
    url: str,
    parameters: Mapping[str, Any],
    host: str,
    certificate: str,
    token: str,
    ca: str | None,
) -> OutboundMessage:
    """Write TRAINING_DATA of an attempt, whose exchange is `host` and has this certificate."""
    exchange = f"https://{host}:{EXCHANGE_PORT}"
    payload = TrainingData(
        project_id=config.project_id,
        plugin_id=config.plugin_id,
        training_df_name=config.frame_name,
        parameters=dict(parameters),
        info=config.info,
        location=exchange + EXCHANGE_FRAME,
    )
    about = about_attempt(config.run_uid, attempt)
    data = {
        **payload.model_dump(mode="json"),
        "messages_url": address.messages_url,
        "messages_ca": address.messages_ca,
        "exchange_url": exchange + EXCHANGE_ARTEFACT,
        "exchange_ca": certificate,
        "token": token,
    }
    subject = {"subject": config.run_name, "subjectuid": config.run_uid, "attempt": str(attempt)}
    body = _event(MessageType.TRAINING_DATA, about, config.messaging.source, subject, data, recipient=url)
    return OutboundMessage(namespace=config.namespace, id=about, url=url, body=body, ca=ca)


def about_plugin(plugin: Plugin) -> str:
    """Say what inquiries of a Plugin are about: a changed one is asked anew."""
    return f"{plugin.metadata.uid}-{plugin.metadata.generation}"


def inquiry(
    plugin: Plugin, address: ReturnAddress, *, tokens: ServiceTokens, now: datetime, url: str, ca: str | None
) -> OutboundMessage:
    """Write ONLINE_INQUIRY: who are you, and how are you?"""
    metadata = plugin.metadata
    grant = PluginGrant(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        generation=metadata.generation,
        plugin_id=message_id(metadata.uid),
    )
    number = f"{about_plugin(plugin)}-{int(now.timestamp())}"
    data = {
        "messages_url": address.messages_url,
        "messages_ca": address.messages_ca,
        "token": tokens.issue(grant, expires=now + PLUGIN_LIFETIME),
    }
    source = f"/namespaces/{metadata.namespace}/plugins/{metadata.name}"
    subject = {
        "subject": plugin_subject(metadata.name, metadata.generation),
        "subjectuid": metadata.uid,
        "attempt": "0",
    }
    body = _event(MessageType.ONLINE_INQUIRY, number, source, subject, data, recipient=url)
    return OutboundMessage(namespace=metadata.namespace, id=number, url=url, body=body, ca=ca)


def _event(
    kind: MessageType,
    number: str,
    source: str,
    subject: Mapping[str, str],
    data: Mapping[str, Any],
    *,
    recipient: str,
) -> bytes:
    """Write an event; `subject`: the attributes that say what it is about, which an answer repeats.

    `recipient`: the URL that it is posted to. It is signed with the rest: who gets an event cannot pass it on.
    """
    attributes = {
        "id": number,
        "source": source,
        "type": f"{TYPE_PREFIX}{kind}",
        "datacontenttype": "application/json",
        RECIPIENT_ATTRIBUTE: recipient,
        **subject,
    }
    body: bytes = to_structured_event(CloudEvent(attributes, dict(data))).body
    return body
