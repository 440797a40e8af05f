"""What pods need in a namespace is made once, and looked at again after a while."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from chorus_api.contract import CA_CONFIG_MAP, RUN_SERVICE_ACCOUNT, WEBHOOK_KEY
from chorus_kube.resources import CONFIG_MAPS, SERVICE_ACCOUNTS
from chorus_operator.ca import CaBundle, load_authority, make_ca
from chorus_operator.reconcile.namespaces import RunNamespaces
from chorus_operator.services.keys import WebhookKeys, service_keys
from chorus_pki.certificates import Authority
from chorus_protocol.webhook_signature import public_key
from fakes import FakeKube
from simulated_time import simulate

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run_namespaces(kube: FakeKube, authority: Authority) -> RunNamespaces:
    keys = WebhookKeys(kube, service_keys(authority))  # type: ignore[arg-type]
    return RunNamespaces(kube, bundle=CaBundle(kube, authority=authority), keys=keys)  # type: ignore[arg-type]


def published(kube: FakeKube, namespace: str) -> str:
    stored = kube.find(CONFIG_MAPS, CA_CONFIG_MAP, namespace)
    assert stored is not None
    return str(stored["data"][WEBHOOK_KEY])


async def test_each_namespace_is_given_a_webhook_key_of_its_own_which_another_of_the_same_name_does_not_get() -> None:
    kube, authority = FakeKube(), make_ca(now=NOW)
    for namespace in ("team-a", "team-b"):
        await run_namespaces(kube, authority).ensure(namespace)
    first = published(kube, "team-a")
    assert first != published(kube, "team-b")
    kube.namespace_uids["team-a"] = "made-anew"
    await run_namespaces(kube, authority).ensure("team-a")
    assert published(kube, "team-a") != first


async def test_what_is_signed_from_then_on_fits_the_key_that_was_published() -> None:
    kube, authority = FakeKube(), make_ca(now=NOW)
    keys = WebhookKeys(kube, service_keys(authority))  # type: ignore[arg-type]
    await keys.of("team")
    kube.namespace_uids["team"] = "made-anew"
    bundle = CaBundle(kube, authority=authority)  # type: ignore[arg-type]
    await RunNamespaces(kube, bundle=bundle, keys=keys).ensure("team")  # type: ignore[arg-type]
    assert public_key(await keys.of("team")) == published(kube, "team")


def test_a_namespace_gets_an_identity_and_the_bundle_and_is_looked_at_again_after_a_minute() -> None:
    async def main() -> None:
        kube = FakeKube()
        authority = await load_authority(kube, namespace="chorus-system", clock=lambda: NOW)  # type: ignore[arg-type]
        namespaces = run_namespaces(kube, authority)
        for _ in range(3):
            await namespaces.ensure("team")
        assert kube.find(SERVICE_ACCOUNTS, RUN_SERVICE_ACCOUNT, "team")
        assert kube.find(CONFIG_MAPS, CA_CONFIG_MAP, "team")
        asked = len(kube.calls)
        await asyncio.sleep(59)
        await namespaces.ensure("team")
        assert len(kube.calls) == asked
        await asyncio.sleep(2)
        await namespaces.ensure("team")
        assert len(kube.calls) > asked

    simulate(main())
