from __future__ import annotations

import socket
import sys

import pytest

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.sources.egress import AddressRefused, Egress
from local_sources import on_this_machine

FORBIDDEN = (
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "100.100.100.200",
    "0.0.0.0",
    "fd20:ce::254",
    "192.0.0.192",
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::a9fe:a9fe",
    "::ffff:0:a9fe:a9fe",
    "127.0.0.1",
    "::1",
    "224.0.0.1",
    "255.255.255.255",
    "10.96.0.1",
    "172.18.0.2",
)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_socket_does_not_connect_to_a_forbidden_address(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    egress = Egress(api_server=["10.96.0.1", "172.18.0.2:443"])
    with egress, socket.socket(family) as client, pytest.raises(AddressRefused):
        client.connect((address, 443))
    assert egress.refused is not None
    assert address in egress.refused


@pytest.mark.parametrize(
    "host",
    ["[fe80::1]", "0xa9fea9fe", "169.254.43518", "kubernetes.default", "KUBERNETES.default.svc.", "kube.example"],
)
def test_a_url_with_a_forbidden_host_is_refused_before_anything_is_resolved(host: str) -> None:
    with pytest.raises(DataError) as caught:
        Egress(api_server=["kube.example"]).check_url(f"https://{host}/a.csv")
    assert caught.value.reason is Reason.SOURCE_REFUSED


def test_other_addresses_and_names_are_let_pass() -> None:
    egress = Egress(api_server=["10.96.0.1", ""])
    for host in ("10.96.0.2", "192.168.0.1", "fd00::1", "data.example", "kubernetes-data.example", "1password.example"):
        egress.check_url(f"https://{host if ':' not in host else f'[{host}]'}/a.csv")
    assert egress.refused is None


def test_what_a_test_allows_is_connected_to() -> None:
    egress = Egress(allows=on_this_machine)
    with socket.create_server(("127.0.0.1", 0)) as server, egress:
        socket.create_connection(server.getsockname(), timeout=5).close()
    assert egress.refused is None


def test_a_name_that_the_system_would_resolve_by_itself_is_not_connected_to() -> None:
    """The hook is told the name alone, not what it stands for."""
    egress = Egress(allows=on_this_machine)
    with egress, socket.socket() as client, pytest.raises(AddressRefused, match="was not resolved before"):
        sys.audit("socket.connect", client, ("data.example", 443))


def test_a_name_that_stands_for_a_refused_address_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **how: real("127.0.0.1", *rest, **how))
    with pytest.raises(DataError, match=r"data\.example, which stands for 127\.0\.0\.1, this machine"):
        Egress().resolve("data.example", 443)


def test_an_endpoint_of_the_api_server_is_refused_at_its_port_alone() -> None:
    egress = Egress(api_server=["172.18.0.2:6443"])
    egress.check_url("https://172.18.0.2:30443/a.csv")
    with pytest.raises(DataError, match="the API server"):
        egress.check_url("https://172.18.0.2:6443/a.csv")


def test_once_it_is_left_it_refuses_nothing() -> None:
    egress = Egress()
    with socket.create_server(("127.0.0.1", 0)) as server:
        with egress, pytest.raises(AddressRefused):
            socket.create_connection(server.getsockname(), timeout=5)
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_the_interpreter_gets_no_further_hook_for_what_is_fetched_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks stay for good, and each is called at every audited event of the process."""
    with Egress():
        pass
    added: list[object] = []
    monkeypatch.setattr(sys, "addaudithook", added.append)
    for _ in range(3):
        with Egress():
            pass
    assert not added


def test_each_of_several_that_are_entered_is_asked() -> None:
    outer, inner = Egress(api_server=["172.18.0.2:443"], allows=on_this_machine), Egress(allows=on_this_machine)
    with outer, inner, socket.socket() as client, pytest.raises(AddressRefused, match="172"):
        client.connect(("172.18.0.2", 443))
    assert (outer.refused is None, inner.refused) == (False, None)
