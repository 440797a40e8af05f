"""Where nothing of Chorus connects to: this machine, link-local and metadata addresses, the API server.

Tenants write URLs, servers redirect and names are resolved to whatever their owners like. The operator and its pods
reach more than those who write the URLs. So names are checked first, as far as they tell, and the address of each
connection when it is opened. This is the only list of refused addresses.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

THIS_MACHINE = "this machine"
LINK_LOCAL = "a link-local address, at which clouds hand out credentials"
METADATA = "the metadata service of a cloud"
MANY = "a multicast or broadcast address"
API_SERVER = "the API server of this cluster"
SPELLING = "no name and no address as it should be written: write an address as four decimal numbers"

_REFUSED = tuple(
    (ipaddress.ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", THIS_MACHINE),
        ("127.0.0.0/8", THIS_MACHINE),
        ("::/127", THIS_MACHINE),
        ("169.254.0.0/16", LINK_LOCAL),
        ("fe80::/10", LINK_LOCAL),
        ("100.100.100.200/32", METADATA),  # Alibaba Cloud
        ("168.63.129.16/32", METADATA),  # Azure
        ("192.0.0.192/32", METADATA),  # Oracle Cloud
        ("fd00:42::42/128", METADATA),  # Scaleway
        ("fd00:100::100:200/128", METADATA),  # Alibaba Cloud
        ("fd00:a9fe:a9fe::1/128", METADATA),  # Akamai
        ("fd00:c1::a9fe:a9fe/128", METADATA),  # Oracle Cloud
        ("fd00:ec2::/32", METADATA),  # AWS
        ("fd20:ce::254/128", METADATA),  # Google Cloud
        ("224.0.0.0/4", MANY),
        ("255.255.255.255/32", MANY),
        ("ff00::/8", MANY),
    )
)
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_LAST_32_BITS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "::/96",  # IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "::ffff:0:0:0/96",  # IPv4-translated (SIIT)
        "64:ff9b::/96",  # NAT64
    )
)
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
_LOCALHOST = re.compile(r"(?:.*\.)?localhost(?:\.localdomain)?|ip6-localhost|ip6-loopback")
_NAMES = (
    (re.compile(r"kubernetes(?:\.default(?:\.svc(?:\..*)?)?)?"), API_SERVER),
    (re.compile(r"metadata(?:\.google\.internal|\.goog|\.oraclecloud\.com)?"), METADATA),
    (re.compile(r"instance-data(?:\.ec2\.internal)?"), METADATA),
)
_NUMBERS = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}")
_IN_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_ZONED = re.compile(r"([0-9a-f:.]+)%[0-9a-z_-]*")
"""An address with a zone. A zone with a dot is none: together they could be looked up as a name."""
_NOT_IN_NAMES = re.compile(r"[%\[\]\\\s]")
_DOTS = str.maketrans({"\u3002": ".", "\uff0e": ".", "\uff61": "."})


def nothing(_: Address) -> bool:
    """Allow no address that is refused."""
    return False


@dataclass(frozen=True)
class ApiServer:
    """Where the API server answers.

    `hosts`: names and addresses of which every port is refused, as the Service `kubernetes`. `endpoints`: addresses of
    which one port is refused: a control-plane node may serve other things at other ports.
    """

    hosts: frozenset[str] = frozenset()
    endpoints: frozenset[tuple[Address, int]] = frozenset()

    @classmethod
    def parse(cls, texts: Collection[str]) -> ApiServer:
        """Read `host`, `host:port` and `[address]:port`; what is empty is left out. ValueError for a port that is none.

        A name with a port is refused at every port: a name says nothing at the moment of a connection.
        """
        hosts: set[str] = set()
        endpoints: set[tuple[Address, int]] = set()
        for text in filter(None, texts):
            host, port = split_port(text)
            address = read_address(host)
            if address is not None and port is not None:
                endpoints.add((address, port))
            else:
                hosts.add(str(address) if address is not None else plain_host(host))
        return cls(frozenset(hosts), frozenset(endpoints))

    def __or__(self, other: ApiServer) -> ApiServer:
        """Join what two sources tell."""
        return ApiServer(self.hosts | other.hosts, self.endpoints | other.endpoints)

    def texts(self) -> list[str]:
        """Write it for a configuration, sorted, as `parse` reads it."""
        return sorted({*self.hosts, *(pair(str(address), port) for address, port in self.endpoints)})

    def has(self, address: Address, port: int | None) -> bool:
        """Whether the API server answers at an address and a port; at any port when it is None."""
        return str(address) in self.hosts or any(
            address == known and port in (None, known_port) for known, known_port in self.endpoints
        )


UNKNOWN = ApiServer()
"""An API server of which nobody knows where it is."""


def read_address(text: str) -> Address | None:
    """Read an address, without the zone that it may have; None for a name, and for an address in another spelling."""
    name = plain_host(text)
    try:
        return ipaddress.ip_address(name) if "%" not in name else None
    except ValueError:
        return None


def plain_host(host: str) -> str:
    """Write a host in one form: lower case, without the dot at the end, the brackets and zone of an IPv6 address."""
    name = unicodedata.normalize("NFKC", host).translate(_DOTS).lower()
    address = bracketed[1] if (bracketed := _IN_BRACKETS.fullmatch(name)) is not None else name
    if (zoned := _ZONED.fullmatch(address)) is not None:
        address = zoned[1]
    return address if _is_ipv6(address) else name.rstrip(".")


def is_well_spelt(host: str) -> bool:
    """Whether every program reads a host as the same name or address.

    False with a percent sign, brackets, a backslash or white space: they are for addresses alone, without which what
    one program takes for the zone of an address is a part of a name, and of another host, for the next one.
    """
    return _NOT_IN_NAMES.search(plain_host(host)) is None


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6 and "%" not in text
    except ValueError:
        return False


def host_problem(
    host: str,
    *,
    port: int | None = None,
    api_server: ApiServer = UNKNOWN,
    allows: Callable[[Address], bool] = nothing,
) -> str | None:
    """Say what a host is that may not be connected to, such as "this machine"; None when its name tells nothing.

    A name that passes may still be resolved to an address that does not: check that with `address_problem`.
    `port` narrows the API server's endpoints; None is every port. `allows`: see `address_problem`.
    """
    name = plain_host(host)
    if _LOCALHOST.fullmatch(name):
        name = "127.0.0.1"
    if (address := read_address(name)) is not None:
        return address_problem(address, port=port, api_server=api_server, allows=allows)
    if _NUMBERS.fullmatch(name) or not is_well_spelt(name):
        return SPELLING
    if name in api_server.hosts:
        return API_SERVER
    return next((what for names, what in _NAMES if names.fullmatch(name)), None)


def address_problem(
    address: Address,
    *,
    port: int | None = None,
    api_server: ApiServer = UNKNOWN,
    allows: Callable[[Address], bool] = nothing,
) -> str | None:
    """Say what an address is that may not be connected to; None when it may.

    `allows`: addresses that are taken although they would be refused. It is for tests, whose servers are on this
    machine: nothing that a tenant writes may reach it.
    """
    if isinstance(address, ipaddress.IPv6Address):
        address = ipaddress.IPv6Address(int(address))  # without its zone, which would make it unlike any other
    if allows(address):
        return None
    stands_for = (address, *_embedded(address))
    if any(api_server.has(each, port) for each in stands_for):
        return API_SERVER
    return next((what for each in stands_for for network, what in _REFUSED if each in network), None)


def _embedded(address: Address) -> Iterator[ipaddress.IPv4Address]:
    """Give the IPv4 addresses that an IPv6 address stands for where a translator or a tunnel is on the way."""
    if not isinstance(address, ipaddress.IPv6Address):
        return
    bits = int(address)
    if any(address in network for network in _LAST_32_BITS) or _is_isatap(bits):
        yield ipaddress.IPv4Address(bits & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    yield from address.teredo or ()
    if address in _LOCAL_NAT64:
        yield from _local_nat64(bits)


def _is_isatap(bits: int) -> bool:
    return (bits >> 32) & 0xFDFFFFFF == 0x00005EFE


def _local_nat64(bits: int) -> Iterator[ipaddress.IPv4Address]:
    """Read an address of 64:ff9b:1::/48 by each length of prefix that a network may use there (RFC 6052).

    What was written by one length reads as 0.x.x.x by another; that does not count, for nothing is sent there.
    """
    for length in (48, 56, 64):
        late = length - 32  # how many of its bits come after bits 64 to 71, which hold nothing
        early = (bits >> 64) & ((1 << 64 - length) - 1)
        found = ipaddress.IPv4Address(early << late | (bits >> (56 - late)) & ((1 << late) - 1))
        if found not in _THIS_NETWORK:
            yield found
    whole = ipaddress.IPv4Address(bits & 0xFFFFFFFF)
    if whole not in _THIS_NETWORK:
        yield whole


def split_port(text: str) -> tuple[str, int | None]:
    """Part `host:port` or `[address]:port`, whose port may be missing; ValueError for a port that is none."""
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port or (":" in host and not host.endswith("]")):
        return text, None
    number = int(port)
    if not 0 < number < 65536:
        raise ValueError(f"{text!r} has no port from 1 to 65535")
    return host, number


def pair(host: str, port: int) -> str:
    """Write a host and a port as `split_port` reads them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
