"""What pods need in a namespace is made once, and looked at again after a while."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from chorus_api.contract import CA_CONFIG_MAP, RUN_SERVICE_ACCOUNT
from chorus_operator.kube.ca import CaBundle, load_authority
from chorus_operator.kube.resources import CONFIG_MAPS, SERVICE_ACCOUNTS
from chorus_operator.reconcile.namespaces import RunNamespaces
from fakes import FakeKube
from simulated_time import simulate

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_namespace_gets_an_identity_and_the_bundle_and_is_looked_at_again_after_a_minute() -> None:
    async def main() -> None:
        kube = FakeKube()
        authority = await load_authority(kube, namespace="chorus-system", clock=lambda: NOW)  # type: ignore[arg-type]
        namespaces = RunNamespaces(kube, bundle=CaBundle(kube, webhook_key="whpk_1", authority=authority))  # type: ignore[arg-type]
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
