"""The operator's own certificate authority, made once, and the bundle by which pods and services know it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta

from chorus_api.contract import CA_CONFIG_MAP, CA_KEY, MANAGED_BY, MANAGED_BY_LABEL, WEBHOOK_KEY
from chorus_kube.client import Kube
from chorus_kube.errors import AlreadyExists, Conflict
from chorus_kube.resources import CONFIG_MAPS, SECRETS
from chorus_pki.certificates import Authority, ForeignKey, make_authority, read_authority

CA_SECRET = "chorus-ca"
CA_LIFETIME = timedelta(days=3650)
_CERTIFICATE, _KEY = "tls.crt", "tls.key"
_LABELS = {MANAGED_BY_LABEL: MANAGED_BY}


class BrokenAuthority(Exception):
    """The stored CA cannot be used; the text says what to do."""


def make_ca(*, now: datetime) -> Authority:
    """Make a CA, valid for ten years, that can sign servers."""
    return make_authority("chorus-ca", now=now, lifetime=CA_LIFETIME)


async def load_authority(kube: Kube, *, namespace: str, clock: Callable[[], datetime]) -> Authority:
    """Read the CA from the Secret `chorus-ca` of the operator's namespace; the first operator makes it.

    Creating the Secret is the lock: of two operators that make one at once, both use the one that was stored.
    """
    stored = await kube.get(SECRETS, namespace=namespace, name=CA_SECRET)
    if stored is None:
        made = make_ca(now=clock())
        manifest = {
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            "metadata": {"name": CA_SECRET, "namespace": namespace, "labels": _LABELS},
            "type": "kubernetes.io/tls",
            "data": {
                _CERTIFICATE: base64.b64encode(made.certificate).decode(),
                _KEY: base64.b64encode(made.key).decode(),
            },
        }
        try:
            stored = await kube.create(manifest)
        except AlreadyExists:
            stored = await kube.get(SECRETS, namespace=namespace, name=CA_SECRET)
    return _read(stored or {}, namespace=namespace, now=clock())


def _read(secret: dict[str, object], *, namespace: str, now: datetime) -> Authority:
    remedy = f"delete Secret {namespace}/{CA_SECRET} and restart the operator: it makes a new CA"
    try:
        data = secret["data"]
        assert isinstance(data, dict)
        authority = Authority(base64.b64decode(data[_CERTIFICATE]), base64.b64decode(data[_KEY]))
        certificate, _ = read_authority(authority)
    except ForeignKey as error:
        raise BrokenAuthority(f"the stored CA's key does not fit its certificate: {remedy}") from error
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise BrokenAuthority(f"the stored CA cannot be read ({type(error).__name__}): {remedy}") from error
    if certificate.not_valid_after_utc <= now:
        raise BrokenAuthority(f"the stored CA expired at {certificate.not_valid_after_utc}: {remedy}")
    return authority


class CaBundle:
    """Puts what a namespace knows the operator by into its ConfigMap `chorus-ca`."""

    def __init__(self, kube: Kube, *, authority: Authority):
        self._kube = kube
        self._certificate = authority.certificate.decode()

    async def ensure(self, namespace: str, *, webhook_key: str) -> None:
        """Make the ConfigMap right; `webhook_key`: the namespace's public key of what services are sent.

        Raises KubeError, Conflict when somebody else writes the ConfigMap at the same time.
        """
        data = {CA_KEY: self._certificate, WEBHOOK_KEY: webhook_key}
        stored = await self._kube.get(CONFIG_MAPS, namespace=namespace, name=CA_CONFIG_MAP)
        if stored is not None and stored.get("data") == data:
            return
        if stored is None:
            await self._make(namespace, data)
            return
        metadata = stored["metadata"]
        others = dict.fromkeys(stored.get("data", {}).keys() - data.keys())
        await self._kube.patch(
            CONFIG_MAPS,
            namespace=namespace,
            name=CA_CONFIG_MAP,
            merge_patch={"metadata": {"labels": _LABELS}, "data": {**data, **others}},
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
        )

    async def _make(self, namespace: str, data: dict[str, str]) -> None:
        manifest = {
            "apiVersion": CONFIG_MAPS.api_version,
            "kind": CONFIG_MAPS.kind,
            "metadata": {"name": CA_CONFIG_MAP, "namespace": namespace, "labels": _LABELS},
            "data": data,
        }
        try:
            await self._kube.create(manifest)
        except AlreadyExists:
            made = await self._kube.get(CONFIG_MAPS, namespace=namespace, name=CA_CONFIG_MAP)
            if made is None or made.get("data") != data:
                raise Conflict(f"ConfigMap {namespace}/{CA_CONFIG_MAP} was just made", status=409) from None
