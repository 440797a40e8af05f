"""From `kubectl apply -k` to a release, with either version of Helm: nothing is deleted on the way."""

from __future__ import annotations

from builders import make_plugin
from harness.binaries import REPOSITORY
from harness.client import Api
from harness.cluster import Env, command
from harness.helm import NAMESPACE, RELEASE, Helm
from harness.release import CRDS, Release, clear, kubectl

FLAGS = {"helm3": ("--take-ownership",), "helm4": ("--take-ownership", "--force-conflicts")}


async def uids() -> str:
    """Of the definitions and of the Deployment."""
    words = ("-o", "jsonpath={.items[*].metadata.uid}")
    deployments = await kubectl("get", "deployments", "-n", NAMESPACE, *words)
    return await kubectl("get", "crd", *CRDS, *words) + deployments


async def test_a_release_takes_over_what_kubectl_has_made(helm: Helm, api: Api) -> None:
    await clear(api)
    await command(str(REPOSITORY / "scripts" / "install"), seconds=240)
    release = Release(helm, RELEASE, NAMESPACE)
    try:
        async with Env.make(api, "over") as place:
            await place.apply(make_plugin())
            before = await uids()
            await release.install(flags=FLAGS[helm.version])
            assert await uids() == before
            await place.kubectl("wait", "cplug/t5", "--for=condition=Ready", "--timeout=60s", seconds=70)
            labels = await kubectl("-n", NAMESPACE, "get", "deployment", "chorus-operator", "--show-labels")
            assert "app.kubernetes.io/managed-by=Helm" in labels
            await release.uninstall()
            assert (await place.api.get("Plugin", "t5", namespace=place.namespace))["status"]
    finally:
        await clear(api)
