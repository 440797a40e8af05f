from __future__ import annotations

import socket

import pytest

from chorus_api.reasons import Reason
from chorus_dataset.egress import AddressRefused, Egress
from chorus_dataset.errors import DataError

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
    "10.96.0.1",
)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_socket_does_not_connect_to_a_forbidden_address(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    egress = Egress(api_server=["10.96.0.1"])
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
    with socket.create_server(("127.0.0.1", 0)) as server, egress:
        socket.create_connection(server.getsockname(), timeout=5).close()
    assert egress.refused is None


def test_once_it_is_left_it_refuses_nothing() -> None:
    egress = Egress(api_server=["127.0.0.1"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        with egress, pytest.raises(AddressRefused):
            socket.create_connection(server.getsockname(), timeout=5)
        socket.create_connection(server.getsockname(), timeout=5).close()
