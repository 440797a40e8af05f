"""One POST to a service: signed, without redirects, without a proxy, and telling nothing of the answer but its status.

What a service answers is never shown: it may be any machine that the operator can reach and the user cannot.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chorus_client.masking import mask
from chorus_operator.decisions.dispatch import Limits
from chorus_operator.services.addresses import AddressGuard, AddressRefused
from chorus_operator.services.resolver import ThreadResolver
from chorus_protocol.webhook_signature import signed_headers

CONTENT_TYPE = "application/cloudevents+json"
POST_SECONDS = 10.0


@dataclass(frozen=True)
class OutboundMessage:
    """A message to a service. `id` is what a service knows it again by."""

    namespace: str
    """Of what it is about: its key signs the message."""
    id: str
    url: str
    body: bytes
    """A CloudEvent in structured mode."""
    ca: str | None = None
    """The certificates that the service is known by, PEM; the system's when None."""


class ServiceClient:
    """Sends messages to services. Belongs to one event loop."""

    def __init__(
        self,
        *,
        key_of: Callable[[str], Awaitable[Ed25519PrivateKey]],
        guard: AddressGuard,
        clock: Callable[[], datetime],
        seconds: float = POST_SECONDS,
    ):
        """`key_of`: gives the key of a namespace (`keys.WebhookKeys`); `seconds`: how long one try may take."""
        self._key_of = key_of
        self._guard = guard
        self._clock = clock
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(max_workers=Limits().total, thread_name_prefix="service-names")

    async def post(self, outbound: OutboundMessage) -> str | None:
        """Try once; None when the service took it (2xx), else why it did not.

        Raises what `key_of` raises, and TimeoutError when it takes too long.
        """
        async with asyncio.timeout(self._seconds):
            key = await self._key_of(outbound.namespace)
        timestamp = int(self._clock().timestamp())
        headers = signed_headers(key, message_id=outbound.id, timestamp=timestamp, body=outbound.body)
        resolver = ThreadResolver(self._threads)
        problem = await self._try(outbound, {"Content-Type": CONTENT_TYPE, **headers}, resolver)
        await resolver.ended()
        return problem

    async def _try(self, outbound: OutboundMessage, headers: dict[str, str], resolver: ThreadResolver) -> str | None:
        try:
            async with asyncio.timeout(self._seconds):
                return _problem(await self._send(outbound, headers, resolver))
        except AddressRefused as error:
            return error.strerror
        except TimeoutError:
            return f"it did not answer within {self._seconds:g} s"
        except aiohttp.ClientConnectorCertificateError as error:
            return f"its certificate is not trusted (see spec.service.caConfigMap): {error.certificate_error}"[:500]
        except aiohttp.ClientConnectorError as error:
            refused = error.os_error if isinstance(error.os_error, AddressRefused) else None
            return refused.strerror if refused else str(error)[:500]
        except ssl.SSLError as error:
            return f"spec.service.caConfigMap holds no certificates that can be read: {error}"[:500]
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return mask(f"{type(error).__name__}: {error}")[:500]

    async def _send(self, outbound: OutboundMessage, headers: dict[str, str], resolver: ThreadResolver) -> int:
        await self._guard.prepare(urlsplit(outbound.url).hostname or "")
        connector = aiohttp.TCPConnector(
            ssl=ssl.create_default_context(cadata=outbound.ca) if outbound.url.startswith("https:") else True,
            resolver=resolver,
            socket_factory=self._guard.open,
            use_dns_cache=False,  # a name is believed for one connection
            force_close=True,
        )
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),  # `_try` has it
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        ) as session:
            async with session.post(outbound.url, data=outbound.body, headers=headers, allow_redirects=False) as answer:
                return answer.status


def _problem(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"it answered {status}: redirects are not followed, so name the address itself in spec.service"
    return f"it answered {status}"
