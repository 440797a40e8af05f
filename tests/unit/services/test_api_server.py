"""Where the operator finds the API server, when it asks again, and what it keeps when nobody answers."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Any

import pytest

from chorus_kube.errors import Forbidden, Unavailable
from chorus_kube.login import Credentials
from chorus_kube.resources import Resource
from chorus_net.addresses import ApiServer
from chorus_operator.services.api_server import KNOWN_SECONDS, ApiServerFinder

SLICE = {
    "endpoints": [{"addresses": ["172.18.0.2"]}, {"addresses": ["172.18.0.3"]}],
    "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
}


@dataclass
class ControlPlane:
    """What the API server tells of itself; `error` is raised instead."""

    advertised: list[str] = field(default_factory=lambda: ["172.18.0.2:6443"])
    slice: dict[str, Any] | None = field(default_factory=lambda: SLICE)
    error: Exception | None = None
    slice_error: Exception | None = None
    asked: list[str] = field(default_factory=list)

    async def credentials(self) -> Credentials:
        return Credentials("https://10.96.0.1:443", None, None, None, insecure=False, token=None)

    async def server_addresses(self) -> list[str]:
        self.asked.append("api")
        if self.error:
            raise self.error
        return self.advertised

    async def get(self, resource: Resource, *, namespace: str, name: str) -> dict[str, Any] | None:
        self.asked.append(f"{resource.plural} {namespace}/{name}")
        if self.slice_error:
            raise self.slice_error
        return self.slice


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def cluster_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the Service is known as in a pod."""
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **how: Any) -> Any:
        return real("10.96.0.1" if host == "kubernetes.default.svc" else host, *rest, **how)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def finder(control_plane: ControlPlane, *, reads_slice: bool = True, clock: Clock | None = None) -> ApiServerFinder:
    return ApiServerFinder(control_plane, reads_slice=reads_slice, seconds=clock or Clock())  # type: ignore[arg-type]


async def test_every_api_server_behind_the_service_is_found() -> None:
    known = await finder(ControlPlane()).known()
    assert known == ApiServer.parse(["10.96.0.1", "10.96.0.1:443", "172.18.0.2:6443", "172.18.0.3:6443"])


async def test_without_the_right_to_the_slice_the_answering_one_is_found_and_nothing_forbidden_is_asked() -> None:
    control_plane = ControlPlane(advertised=["172.18.0.3:6443"])
    known = await finder(control_plane, reads_slice=False).known()
    assert known == ApiServer.parse(["10.96.0.1", "10.96.0.1:443", "172.18.0.3:6443"])
    assert control_plane.asked == ["api"]


async def test_it_is_asked_for_at_most_once_a_minute_also_by_many_at_once() -> None:
    control_plane, clock = ControlPlane(), Clock()
    found = finder(control_plane, clock=clock)
    await asyncio.gather(*(found.known() for _ in range(20)))
    assert sorted(control_plane.asked) == ["api", "endpointslices default/kubernetes"]
    clock.now += KNOWN_SECONDS - 1
    await found.known()
    assert len(control_plane.asked) == 2
    control_plane.slice = SLICE | {"endpoints": [{"addresses": ["172.18.0.9"]}]}
    clock.now += 1
    assert ApiServer.parse(["172.18.0.9:6443"]).endpoints < (await found.known()).endpoints


async def test_what_is_not_told_for_a_while_is_still_where_it_was() -> None:
    control_plane, clock = ControlPlane(), Clock()
    found = finder(control_plane, clock=clock)
    before = await found.known()
    clock.now += KNOWN_SECONDS
    control_plane.error, control_plane.slice_error = Unavailable("gone"), Forbidden("no right", status=403)
    assert await found.known() == before


@pytest.mark.parametrize("slice_", [None, {}, {"endpoints": None, "ports": None}, {"endpoints": [{}], "ports": []}])
async def test_a_slice_that_tells_nothing_leaves_what_the_others_tell(slice_: dict[str, Any] | None) -> None:
    known = await finder(ControlPlane(slice=slice_)).known()
    assert known == ApiServer.parse(["10.96.0.1", "10.96.0.1:443", "172.18.0.2:6443"])


async def test_an_advertised_name_is_resolved() -> None:
    known = await finder(ControlPlane(advertised=["localhost:6443"]), reads_slice=False).known()
    assert {port for address, port in known.endpoints if address.is_loopback} == {6443}
