"""What kubectl shows of a stored object: the row of `kubectl get`, with and without `-o wide`, and `kubectl describe`.

Made from the printer columns of `chorus_api.crd`; tests/api/test_kubectl_view.py compares it with the real kubectl.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from chorus_api.crd import KINDS

_STEP = re.compile(r'\.(?P<name>\w+)(?:\[\?\(@\.(?P<key>\w+)=="(?P<value>[^"]*)"\)\])?')
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^A-Z]+")
_ACRONYMS = {"API", "URL", "UID", "GUID"}


def get_row(stored: Mapping[str, Any], *, wide: bool = False, now: datetime | None = None) -> dict[str, str]:
    """Give the cells of `kubectl get` by heading; those of `-o wide` where asked for."""
    kind = next(kind for kind in KINDS if kind.name == stored["kind"])
    cells = {"NAME": str(stored["metadata"]["name"])}
    for column in kind.columns:
        if wide or not column.wide:
            cells[column.name.upper()] = _cell(stored, column.path, column.type, now or datetime.now(UTC))
    return cells


def describe(stored: Mapping[str, Any], events: Iterable[Mapping[str, Any]] = ()) -> str:
    """Give what `kubectl describe` shows of status and Events, without columns' padding and without ages of Events."""
    lines = ["Status:", *_content(stored.get("status", {}), 1)]
    uid = stored["metadata"].get("uid")
    about = [event for event in events if event["involvedObject"].get("uid") == uid]
    lines.append("Events:" if about else "Events: <none>")
    for event in about:
        said_by = event.get("source", {}).get("component", "")
        lines.append(f"  {event['type']} {event['reason']} {said_by} {event['message'].strip()}")
    return "\n".join(lines)


def _cell(stored: Mapping[str, Any], path: str, kind: str, now: datetime) -> str:
    found = list(_find(stored, [step.groupdict() for step in _STEP.finditer(path)]))
    if not found or found[0] is None:
        return ""
    if kind == "date":
        return _age(now - datetime.fromisoformat(found[0]))
    line, *more = re.split(r"[\n\f\r]", str(found[0]), maxsplit=1)
    return f"{line}..." if more else line


def _find(value: Any, steps: list[dict[str, Any]]) -> Iterator[Any]:
    """Follow a JSONPath: fields by name, and members of a list whose field has a value."""
    if not steps:
        yield value
        return
    step, *rest = steps
    if not isinstance(value, Mapping) or step["name"] not in value:
        return
    inner = value[step["name"]]
    if step["key"] is None:
        yield from _find(inner, rest)
        return
    for member in inner:
        if member.get(step["key"]) == step["value"]:
            yield from _find(member, rest)


def _age(span: Any) -> str:
    """Write a time as kubectl does, up to an hour; what is older is not looked at in tests."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes < 10 and rest else f"{minutes}m"


def _content(value: Mapping[str, Any], level: int) -> Iterator[str]:
    indent = "  " * level
    for name, inner in sorted(value.items()):
        if isinstance(inner, Mapping):
            yield f"{indent}{_label(name)}:"
            yield from _content(inner, level + 1)
        elif isinstance(inner, list):
            yield f"{indent}{_label(name)}:"
            for member in inner:
                if isinstance(member, Mapping):
                    yield from _content(member, level + 1)
                else:
                    yield f"{indent}  {member}"
        else:
            yield f"{indent}{_label(name)}: {str(inner).lower() if isinstance(inner, bool) else inner}"


def _label(field: str) -> str:
    """`observedGeneration` is Observed Generation; a name of other characters stays as it is."""
    if not re.fullmatch(r"[A-Za-z-]+", field):
        return field
    parts = [part.upper() if part.upper() in _ACRONYMS else part[0].upper() + part[1:] for part in _WORD.findall(field)]
    return " ".join(parts)
