"""A real API server takes what the chart renders, in namespaces that enforce the restricted profile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from harness.apiserver import ControlPlane
from harness.binaries import kube_binaries
from harness.client import Api, ApiError, Manifest
from harness.cluster import RESTRICTED
from harness.helm import NAMESPACE, Helm, only, operator_pod

SWITCHES: dict[str, Manifest] = {
    "defaults": {},
    "everything": {
        "global": {"imagePullSecrets": [{"name": "mine"}]},
        "commonLabels": {"team": "ml"},
        "operator": {
            "replicas": 2,
            "podDisruptionBudget": {"enabled": True},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}
            ],
            "extraEnv": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "priorityClassName": "system-cluster-critical",
        },
        "networkPolicy": {
            "enabled": True,
            "apiServer": {"cidrs": ["10.0.0.1/32", "fd00::1/128"]},
            "extraEgress": [{"ports": [{"port": 3128}]}],
        },
    },
    "namespaces": {"rbac": {"scope": "Namespaces", "namespaces": [NAMESPACE, "team"]}},
}

pytestmark = pytest.mark.xdist_group("one API server")


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane(kube_binaries()) as running:
        running.start_controllers()
        yield running


@pytest.fixture
async def server(control_plane: ControlPlane) -> AsyncIterator[Api]:
    async with control_plane.api() as client:
        for name in (NAMESPACE, "team"):
            await client.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
            )
        yield client


@pytest.mark.parametrize("case", SWITCHES)
async def test_every_object_is_taken_as_it_is(server: Api, case: str, control_plane: ControlPlane) -> None:
    made = await asyncio.to_thread(Helm().template, SWITCHES[case], hooks=True)
    await control_plane.install([one for one in made if one["kind"] != "Pod"])
    pod = operator_pod(made)
    account = pod["spec"]["serviceAccountName"]
    await server.wait_for("ServiceAccount", account, lambda found: True, namespace=NAMESPACE)
    for name, manifest in (("operator", {"spec": pod["spec"]}), ("test", only(made, "Pod"))):
        await server.wait_for("ServiceAccount", "default", lambda found: True, namespace=NAMESPACE)
        metadata = {"name": f"{name}-{case}", "namespace": NAMESPACE}
        taken = await server.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": manifest["spec"]})
        await server.delete("Pod", taken["metadata"]["name"], namespace=NAMESPACE)


async def test_the_profile_would_refuse_a_pod_that_may_more(server: Api) -> None:
    await server.wait_for("ServiceAccount", "default", lambda found: True, namespace="team")
    pod: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bold", "namespace": "team"},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    }
    with pytest.raises(ApiError, match="violates PodSecurity"):
        await server.create(pod)
