"""Where a service may not be: by what its URL says, when the Plugin is read.

A Plugin is written by a user of a namespace, and the operator, which can reach more than they, connects to where it
says. Addresses are checked when a connection is made.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from chorus_net.addresses import Address, host_problem, nothing


def url_problem(url: str, *, allows: Callable[[Address], bool] = nothing) -> str | None:
    """Say what is wrong with a service's URL, as far as its text tells; None when nothing is.

    `allows`: addresses that are taken although they would be refused.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    if parts.scheme not in ("http", "https") or not host:
        return "must be http://<host>… or https://<host>…"
    if parts.username is not None or parts.password is not None:
        return "must hold no user and no password: anybody who can read the Plugin reads them"
    if parts.fragment:
        return "must have no fragment (#…)"
    problem = host_problem(host, port=port, allows=allows)
    return no_plugin_at(host, problem) if problem else None


def no_plugin_at(host: str, what: str) -> str:
    """Say that a service is where none may be."""
    return f"{host} is {what}, where no plugin can be"
