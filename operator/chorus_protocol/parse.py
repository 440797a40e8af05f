"""From bytes to a checked message: the CloudEvents envelope, and the payload of its type.

Everything that can be wrong with a body ends in one `Refused` that names the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.exceptions import BaseCloudEventException, CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pydantic import BaseModel, ValidationError

from chorus_protocol.messages import PAYLOADS, TYPE_PREFIX, Envelope, MessageType, Payload
from chorus_protocol.refusals import Cause, FieldProblem, Refused

_EXTENSIONS = {"subject_uid": "subjectuid", "attempt": "attempt", "sequence": "sequence", "instance": "instance"}
_MOST_FIELDS = 20
MAX_ENTRIES = 500
"""Of any list or map that has no smaller limit of its own."""


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
    if problems := _too_many_entries(PAYLOADS[kind], data):
        raise _malformed(problems)
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


def _too_many_entries(model: type[BaseModel], data: dict[str, Any], *, prefix: str = "data.") -> list[FieldProblem]:
    """Find lists and maps with more entries than the model allows, before each of the entries is checked.

    Maps that the model does not bound, and what lies in lists, are bounded by MAX_ENTRIES.
    """
    problems: list[FieldProblem] = []
    for name, field in model.model_fields.items():
        for key in {name, field.alias or name} & data.keys():
            value = data[key]
            most = next((limit for each in field.metadata if (limit := getattr(each, "max_length", None))), MAX_ENTRIES)
            if isinstance(value, list | dict) and len(value) > most:
                problems.append(FieldProblem(prefix + key, f"has {len(value)} entries; at most {most} are taken"))
            elif isinstance(value, dict) and (inner := _model_of(field.annotation)) is not None:
                problems += _too_many_entries(inner, value, prefix=f"{prefix}{key}.")
    return problems


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """Find the model of a field that holds one, or None in its place."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _problems(error: ValidationError, *, prefix: str) -> list[FieldProblem]:
    found = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_FIELDS]:
        path = ".".join(str(part) for part in problem["loc"])
        found.append(FieldProblem(prefix + (path if prefix else _EXTENSIONS.get(path, path)), problem["msg"]))
    return found


def _malformed(problems: list[FieldProblem]) -> Refused:
    text = "; ".join(f"{problem.field}: {problem.problem}" for problem in problems)
    return Refused(Cause.MALFORMED, text[:1000], fields=tuple(problems[:_MOST_FIELDS]))
