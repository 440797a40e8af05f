"""The CA is made once, kept, and put where pods find it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from chorus_api.contract import CA_CONFIG_MAP, CA_KEY, WEBHOOK_KEY
from chorus_kube.errors import Conflict
from chorus_kube.resources import CONFIG_MAPS, SECRETS
from chorus_operator.ca import CA_SECRET, BrokenAuthority, CaBundle, load_authority
from fakes import Call, FakeKube

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def load(kube: FakeKube, *, now: datetime = NOW) -> object:
    return await load_authority(kube, namespace="chorus-system", clock=lambda: now)  # type: ignore[arg-type]


async def test_the_first_operator_makes_the_ca_and_the_next_uses_it() -> None:
    kube = FakeKube()
    assert await load(kube) == await load(kube, now=NOW + timedelta(days=3000))
    assert len(kube.all(SECRETS)) == 1


async def test_two_operators_that_start_at_once_use_the_same_ca() -> None:
    kube = FakeKube()
    first, second = await asyncio.gather(load(kube), load(kube))
    assert first == second


async def test_the_ca_lives_ten_years_and_its_key_is_not_shown() -> None:
    authority = await load_authority(FakeKube(), namespace="chorus-system", clock=lambda: NOW)  # type: ignore[arg-type]
    certificate = x509.load_pem_x509_certificate(authority.certificate)
    assert certificate.not_valid_after_utc - NOW == timedelta(days=3650)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "PRIVATE" not in repr(authority)


@pytest.mark.parametrize("data", [{}, {"tls.crt": "aGk=", "tls.key": "aGk="}, {"tls.crt": "***", "tls.key": "***"}])
async def test_a_ca_that_cannot_be_read_says_what_to_do(data: dict[str, str]) -> None:
    kube = FakeKube()
    kube.put(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": CA_SECRET, "namespace": "chorus-system"},
            "data": data,
        }
    )
    with pytest.raises(BrokenAuthority, match="delete Secret chorus-system/chorus-ca"):
        await load(kube)


async def test_an_expired_ca_says_what_to_do() -> None:
    kube = FakeKube()
    await load(kube)
    with pytest.raises(BrokenAuthority, match="expired"):
        await load(kube, now=NOW + timedelta(days=3651))


async def test_a_bundle_is_made_and_mended() -> None:
    kube = FakeKube()
    authority = await load(kube)
    bundle = CaBundle(kube, authority=authority)  # type: ignore[arg-type]
    await bundle.ensure("team", webhook_key="whpk_1")
    stored = kube.find(CONFIG_MAPS, CA_CONFIG_MAP, "team")
    assert stored is not None
    data = {CA_KEY: authority.certificate.decode(), WEBHOOK_KEY: "whpk_1"}
    assert stored["data"] == data
    for wrong in ({CA_KEY: "somebody else's"}, {CA_KEY: data[CA_KEY]}, {**data, "more": "x"}):
        kube.put({**stored, "data": wrong})
        await bundle.ensure("team", webhook_key="whpk_1")
        mended = kube.find(CONFIG_MAPS, CA_CONFIG_MAP, "team")
        assert mended is not None
        assert mended["data"] == data


async def test_operators_that_make_a_bundle_at_once_make_the_same() -> None:
    kube = FakeKube()
    authority = await load(kube)
    bundles = [CaBundle(kube, authority=authority) for _ in range(3)]  # type: ignore[arg-type]
    await asyncio.gather(*(bundle.ensure("team", webhook_key="whpk_1") for bundle in bundles))
    assert sum(call == Call("create", "ConfigMap", CA_CONFIG_MAP) for call in kube.calls) == 3


@pytest.mark.parametrize("verb", ["create", "patch"])
async def test_a_bundle_that_somebody_else_writes_meanwhile_is_looked_at_again(verb: str) -> None:
    """In a namespace that was made anew under its name, such as when its key is another."""
    kube = FakeKube()
    bundle = CaBundle(kube, authority=await load(kube))  # type: ignore[arg-type]
    others = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CA_CONFIG_MAP, "namespace": "team"}}
    if verb == "patch":
        kube.put({**others, "data": {"a": "b"}})

    def write(call: Call) -> None:
        if call.verb == verb:
            kube.objects.pop(("ConfigMap", "team", CA_CONFIG_MAP), None)
            kube.put({**others, "data": {"c": "d"}})

    kube.before = write
    with pytest.raises(Conflict):
        await bundle.ensure("team", webhook_key="whpk_1")
    stored = kube.find(CONFIG_MAPS, CA_CONFIG_MAP, "team")
    assert stored is not None
    assert stored["data"] == {"c": "d"}
    kube.before = lambda call: None
    await bundle.ensure("team", webhook_key="whpk_1")
    mended = kube.find(CONFIG_MAPS, CA_CONFIG_MAP, "team")
    assert mended is not None
    assert mended["data"].keys() == {CA_KEY, WEBHOOK_KEY}
