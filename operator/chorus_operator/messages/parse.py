"""From bytes to a checked message: the CloudEvents envelope, and the payload of its type.

Everything that can be wrong with a body ends in one `Refused` that names the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.exceptions import BaseCloudEventException, CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pydantic import ValidationError

from chorus_api.messages import PAYLOADS, TYPE_PREFIX, Envelope, MessageType, Payload
from chorus_operator.messages.refusals import Cause, FieldProblem, Refused

_EXTENSIONS = {"subject_uid": "subjectuid", "attempt": "attempt", "sequence": "sequence", "instance": "instance"}
_MOST_FIELDS = 20


@dataclass(frozen=True)
class Message:
    """One message as it was sent. What it says about its sender is not checked yet."""

    envelope: Envelope
    payload: Payload


def parse(body: bytes) -> Message:
    """Read a structured-mode CloudEvent; Refused (malformed, unknownType) with the fields that are wrong."""
    event = _event(body)
    kind = _kind(event.get_type())
    attributes = {name: event.get_extension(extension) for name, extension in _EXTENSIONS.items()}
    attributes["subject"] = event.get_subject()
    given = {name: value for name, value in attributes.items() if value is not None}
    data = event.get_data()
    if not isinstance(data, dict):
        raise _malformed([FieldProblem("data", "must be a JSON object")])
    problems: list[FieldProblem] = []
    try:
        envelope = Envelope.model_validate({"id": event.get_id(), "source": event.get_source(), "type": kind, **given})
    except ValidationError as error:
        problems += _problems(error, prefix="")
    try:
        payload = PAYLOADS[kind].model_validate(data)
    except ValidationError as error:
        problems += _problems(error, prefix="data.")
    if problems:
        raise _malformed(problems)
    return Message(envelope, payload)


def _event(body: bytes) -> BaseCloudEvent:
    try:
        return JSONFormat().read(_complete_event, body)
    except CloudEventValidationError as error:
        raise _malformed([FieldProblem(name, str(causes[0])) for name, causes in error.errors.items()]) from error
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, BaseCloudEventException) as error:
        # The SDK reads attributes before it looks at their types, so that a wrong shape shows as any of these.
        raise Refused(Cause.MALFORMED, f"the body is not a CloudEvents 1.0 JSON object: {error}"[:500]) from error


def _complete_event(attributes: dict[str, Any], data: Any) -> BaseCloudEvent:
    """Make an event, without the values that the SDK invents for a missing id or specversion."""
    missing = [name for name in ("specversion", "id") if name not in attributes]
    if missing:
        raise _malformed([FieldProblem(name, "is required") for name in missing])
    return CloudEvent(attributes, data)


def _kind(name: str) -> MessageType:
    known = [f"{TYPE_PREFIX}{kind}" for kind in PAYLOADS]
    if name not in known:
        raise Refused(
            Cause.UNKNOWN_TYPE,
            f"type {name[:100]!r} is not a message that plugins send; known are {', '.join(known)}",
            fields=(FieldProblem("type", "is unknown"),),
        )
    return MessageType(name.removeprefix(TYPE_PREFIX))


def _problems(error: ValidationError, *, prefix: str) -> list[FieldProblem]:
    found = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_FIELDS]:
        path = ".".join(str(part) for part in problem["loc"])
        found.append(FieldProblem(prefix + (path if prefix else _EXTENSIONS.get(path, path)), problem["msg"]))
    return found


def _malformed(problems: list[FieldProblem]) -> Refused:
    text = "; ".join(f"{problem.field}: {problem.problem}" for problem in problems)
    return Refused(Cause.MALFORMED, text[:1000], fields=tuple(problems[:_MOST_FIELDS]))
