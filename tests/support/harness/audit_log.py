"""What the API server's audit log says of a client's requests: see `ControlPlane`, which can be told to write one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from harness.binaries import REPOSITORY

OF_THE_OPERATOR = REPOSITORY / "kind" / "config" / "audit" / "policy.yaml"
"""The policy that writes down what the operator asks, and nothing of anybody else."""


class AuditedRequest(NamedTuple):
    """A request that was answered, as the API server's authoriser saw it."""

    verb: str
    resource: str
    """With its subresource: `trainingruns/status`; empty where it was about none."""
    manager: str
    """The field manager that the client named."""
    status: int


class AuditLog:
    """A log that grows; each call of `new` gives what came since the one before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[AuditedRequest]:
        """Read the lines that are complete."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            complete = [line for line in file if line.endswith(b"\n")]
        self._offset += sum(len(line) for line in complete)
        return list(requests_of(complete))


def requests_of(lines: Iterable[bytes | str]) -> Iterator[AuditedRequest]:
    """Give the requests of some lines, each once; a watch counts when it has ended."""
    for line in lines:
        event = json.loads(line)
        if event["stage"] == "ResponseStarted":
            continue
        about = event.get("objectRef", {})
        resource = "/".join(part for part in (about.get("resource"), about.get("subresource")) if part)
        manager = parse_qs(urlsplit(event["requestURI"]).query).get("fieldManager", [""])[0]
        yield AuditedRequest(event["verb"], resource, manager, event.get("responseStatus", {}).get("code", 0))
