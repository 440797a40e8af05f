"""Where nothing of Chorus connects to, however it is spelt and whatever it is embedded in."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_net.addresses import (
    API_SERVER,
    SPELLING,
    Address,
    ApiServer,
    address_problem,
    host_problem,
    is_well_spelt,
    plain_host,
    read_address,
)

REFUSED_IPV4 = [
    ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "100.100.100.200", "192.0.0.192")
]


def below(prefix: str) -> Callable[[int], IPv6Address]:
    """Put an IPv4 address into the last 32 bits."""
    return lambda bits: IPv6Address(int(IPv6Address(prefix)) | bits)


def behind(prefix: str, *, length: int) -> Callable[[int], IPv6Address]:
    """Put an IPv4 address behind a prefix as RFC 6052 says: bits 64 to 71 stay zero."""

    def embed(bits: int) -> IPv6Address:
        late = length - 32
        return IPv6Address(int(IPv6Address(prefix)) | (bits >> late) << 64 | (bits & ((1 << late) - 1)) << (56 - late))

    return embed


EMBEDDINGS: dict[str, Callable[[int], IPv6Address]] = {
    "compatible": below("::"),
    "mapped": below("::ffff:0:0"),
    "translated": below("::ffff:0:0:0"),
    "nat64": below("64:ff9b::"),
    "local nat64, 96 bits": below("64:ff9b:1::"),
    "local nat64, 96 bits, own prefix": below("64:ff9b:1:2:3:4::"),
    "local nat64, 64 bits": behind("64:ff9b:1::", length=64),
    "local nat64, 56 bits": behind("64:ff9b:1::", length=56),
    "local nat64, 48 bits": behind("64:ff9b:1::", length=48),
    "6to4": lambda bits: IPv6Address(0x2002 << 112 | bits << 80 | 1),
    "teredo server": lambda bits: IPv6Address(0x20010000 << 96 | bits << 64 | 0xFFFFFFFF ^ 0x08080808),
    "teredo client": lambda bits: IPv6Address(0x20010000 << 96 | 0x08080808 << 64 | 0xFFFFFFFF ^ bits),
    "isatap": below("2001:db8::5efe:0:0"),
    "isatap, global": below("2001:db8::200:5efe:0:0"),
}


AMBIGUOUS = {name for name in EMBEDDINGS if name.startswith("local nat64")}
"""The same bits stand for another address by each length of prefix, and some length reads most of them as 0.x.x.x."""
THIS_NETWORK = ip_network("0.0.0.0/8")


# To draw an address costs more than to embed it, so each is tried in every embedding.


@given(st.sampled_from(REFUSED_IPV4).flatmap(lambda network: st.ip_addresses(v=4, network=network)))
def test_an_ipv4_address_that_is_refused_is_refused_in_every_embedding(address: IPv4Address) -> None:
    assert address_problem(address) is not None
    for name, embed in EMBEDDINGS.items():
        if name not in AMBIGUOUS or address not in THIS_NETWORK:
            assert address_problem(embed(int(address))) is not None, f"{embed(int(address))} stands for {address}"


@given(st.ip_addresses(v=4).filter(lambda address: address not in THIS_NETWORK))
def test_the_api_servers_address_is_refused_in_every_embedding(address: IPv4Address) -> None:
    anywhere, at_a_port = ApiServer.parse([str(address)]), ApiServer.parse([f"{address}:6443"])
    for name, embed in EMBEDDINGS.items():
        embedded = embed(int(address))
        assert address_problem(embedded, api_server=anywhere) == API_SERVER, name
        assert address_problem(embedded, port=6443, api_server=at_a_port) == API_SERVER, name


@given(st.ip_addresses(v=4).filter(lambda address: address_problem(address) is None))
def test_an_ipv4_address_that_is_allowed_is_allowed_in_every_embedding(address: IPv4Address) -> None:
    for name in EMBEDDINGS.keys() - AMBIGUOUS:
        assert address_problem(EMBEDDINGS[name](int(address))) is None, name


@pytest.mark.parametrize(
    "host",
    [
        "fd20:ce::254", "192.0.0.192", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::", "::a9fe:a9fe",
        "::ffff:0:169.254.169.254", "::ffff:127.0.0.1", "2001:0:a9fe:a9fe::1", "fd00:ec2::254", "fd00:ec2::254%eth0",
        "fd00:42::42", "fd00:c1::a9fe:a9fe", "fd00:a9fe:a9fe::1", "fd00:100::100:200", "metadata.oraclecloud.com",
        "Metadata.OracleCloud.com.", "fe80::1",
        "fe80::1%25eth0", "[::1]", "::1%lo", "::", "0.0.0.0", "127.1.2.3", "100.100.100.200",
        "168.63.129.16", "224.0.0.1", "255.255.255.255", "ff02::1", "localhost", "a.LOCALHOST.", "ip6-loopback",
        "metadata", "metadata.google.internal.", "METADATA.goog", "instance-data.ec2.internal", "kubernetes",
        "kubernetes.default", "Kubernetes.Default.svc.cluster.local.", "2130706433", "0x7f.1", "127.1", "0177.0.0.1",
        "0xa9fea9fe", "169.254.43518", "１６９.254.169.254", "169。254。169。254", "ｌocalhost",
    ],
)  # fmt: skip
def test_metadata_this_machine_many_and_the_api_server_are_refused_in_every_spelling(host: str) -> None:
    assert host_problem(host) is not None


@pytest.mark.parametrize(
    "host",
    [
        "data.example%25.evil.example", "data.example%", "data.example％.evil.example", "127.0.0.1%eth0", "%6cocalhost",
        "fd00::1%.evil.example", "[fd00::1%a.b]", "fd00::1%a%b", "[data.example]x", "[data.example", "]data.example",
        "data.example\\.evil.example", "data.example evil.example",
    ],
)  # fmt: skip
def test_a_host_that_programs_read_in_different_ways_is_refused(host: str) -> None:
    assert host_problem(host) == SPELLING
    assert read_address(host) is None
    assert not is_well_spelt(host)


@given(st.from_regex(r"[a-z0-9.:]{1,20}%[a-z0-9.%]{0,20}", fullmatch=True))
def test_what_follows_a_percent_sign_is_left_out_of_ipv6_addresses_alone(host: str) -> None:
    plain, before = plain_host(host), host.partition("%")[0].rstrip(".")
    assert plain == host.rstrip(".") or (plain == before and isinstance(read_address(before), IPv6Address))


@pytest.mark.parametrize(
    "host",
    [
        "10.96.0.2", "192.168.0.1", "240.0.0.1", "8.8.8.8", "fd00::1", "fd12:3456::7", "2606:4700::1111",
        "64:ff9b::8.8.8.8", "64:ff9b:1::8.8.8.8", "64:ff9b:1:808:8:800::", "2002:808:808::1", "data.example",
        "kubernetes-data.example", "kubernetes.example.org", "metadata.example.org", "1password.example",
    ],
)  # fmt: skip
def test_other_addresses_and_names_are_taken(host: str) -> None:
    assert host_problem(host) is None


def test_an_endpoint_of_the_api_server_is_refused_at_its_port_alone_and_the_service_at_every_port() -> None:
    known = ApiServer.parse(["10.96.0.1", "172.18.0.2:6443", "[fd00::2]:6443", "", "Kube.Example."])
    assert host_problem("172.18.0.2", port=6443, api_server=known) == API_SERVER
    assert host_problem("fd00:0::2", port=6443, api_server=known) == API_SERVER
    assert host_problem("172.18.0.2", port=30080, api_server=known) is None
    assert host_problem("172.18.0.2", api_server=known) == API_SERVER
    assert host_problem("10.96.0.1", port=8443, api_server=known) == API_SERVER
    assert host_problem("kube.example", port=1, api_server=known) == API_SERVER
    assert host_problem("172.18.0.3", port=6443, api_server=known) is None


@given(st.lists(st.tuples(st.ip_addresses(), st.none() | st.integers(1, 65535))))
def test_what_is_known_of_the_api_server_is_read_as_it_was_written(pairs: list[tuple[Address, int | None]]) -> None:
    known = ApiServer(
        frozenset(str(address) for address, port in pairs if port is None),
        frozenset((address, port) for address, port in pairs if port is not None),
    )
    assert ApiServer.parse(known.texts()) == known


@pytest.mark.parametrize("text", ["10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:https"])
def test_an_endpoint_without_a_usable_port_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|invalid literal"):
        ApiServer.parse([text])


def test_what_a_test_allows_is_taken_by_address_and_by_name_and_nothing_else() -> None:
    def allows(address: Address) -> bool:
        return address.is_loopback

    assert host_problem("127.0.0.1", allows=allows) is None
    assert host_problem("localhost", allows=allows) is None
    assert host_problem("169.254.169.254", allows=allows) is not None
    assert host_problem("metadata", allows=allows) is not None


def test_a_zone_does_not_make_an_address_another() -> None:
    scoped = read_address("fd00::2%eth0")
    assert scoped == ip_address("fd00::2")
    assert address_problem(IPv6Address("fd00::2%eth0"), api_server=ApiServer.parse(["fd00::2"])) == API_SERVER
