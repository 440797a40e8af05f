"""Where a service may not be: the machine itself, link-local addresses, the API server, by whatever name or spelling.

A Plugin is written by a user of a namespace, and the operator, which can reach more than they, connects to where it
says. Names are checked when the Plugin is read, addresses when a connection is made.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from chorus_api.plugin import ServicePlugin

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAMES = re.compile(
    r"(?:.*\.)?localhost(?:\.localdomain)?|ip6-localhost|ip6-loopback"
    r"|kubernetes(?:\.default(?:\.svc(?:\..*)?)?)?"
    r"|metadata(?:\.google\.internal|\.goog)?|instance-data(?:\.ec2\.internal)?"
)
_NUMBERS = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}")
# Addresses at which clouds tell machines their secrets, and which are not link-local.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"), ipaddress.ip_network("::/96"))


def target_url(service: ServicePlugin, namespace: str) -> str:
    """Say where a Plugin's service is posted to."""
    ref = service.service_ref
    if ref is None:
        return service.url or ""
    return f"{ref.scheme}://{ref.name}.{namespace}.svc:{ref.port}{ref.path or '/'}"


def nothing(_: Address) -> bool:
    """Allow no address that is refused."""
    return False


def url_problem(url: str, *, allows: Callable[[Address], bool] = nothing) -> str | None:
    """Say what is wrong with a service's URL, as far as its text tells; None when nothing is.

    `allows`: addresses that are taken although they would be refused.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    if parts.scheme not in ("http", "https") or not host:
        return "must be http://<host>… or https://<host>…"
    if parts.username is not None or parts.password is not None:
        return "must hold no user and no password: anybody who can read the Plugin reads them"
    if parts.fragment:
        return "must have no fragment (#…)"
    return host_problem(host, allows=allows)


def host_problem(host: str, *, allows: Callable[[Address], bool] = nothing) -> str | None:
    """Say why a host may not be asked; None when its name tells nothing against it."""
    name = host.rstrip(".").lower()
    try:
        return address_problem(name, allows=allows)
    except ValueError:
        pass
    if _NUMBERS.fullmatch(name):
        return f"{host!r}: write an address as four decimal numbers"
    if _NAMES.fullmatch(name):
        return f"{host!r} is this machine, a cloud's metadata or the API server, where no plugin can be"
    return None


def address_problem(
    text: str, *, api_server: Collection[Address] = (), allows: Callable[[Address], bool] = nothing
) -> str | None:
    """Say why an address may not be connected to; None when it may. ValueError when the text is no address."""
    address = ipaddress.ip_address(text)
    if allows(address):
        return None
    for each in (address, *_embedded(address)):
        if each in api_server:
            return f"{text} is the API server, where no plugin can be"
        if each.is_loopback or each.is_unspecified or each in _THIS_NETWORK:
            return f"{text} is this machine, where no plugin can be"
        if each.is_link_local or each in _METADATA:
            return f"{text} is a link-local or a metadata address, where no plugin can be"
        if each.is_multicast or each == ipaddress.IPv4Address("255.255.255.255"):
            return f"{text} is the address of many, not of one"
    return None


def _embedded(address: Address) -> tuple[Address, ...]:
    """Give the IPv4 addresses that an IPv6 address stands for, where a translator is on the way."""
    if not isinstance(address, ipaddress.IPv6Address):
        return ()
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _NAT64) and int(address) > 1:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(each for each in found if each is not None)
